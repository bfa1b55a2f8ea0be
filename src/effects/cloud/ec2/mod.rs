//! EC2: resources are found by tag.

mod address;
mod disk;
mod group;
mod image;
mod instances;
mod key_pair;
mod network;
mod network_acl;
mod restore_instance;

pub use address::*;
pub use disk::*;
pub use group::*;
pub use image::*;
pub use instances::*;
pub use key_pair::*;
pub use network::*;
pub use network_acl::*;
pub use restore_instance::*;

pub(crate) use crate::model::cloud::{TAG_ENV, TAG_NAME, TAG_ROLE};
use crate::model::names::Names;
use crate::model::role::Role;
use aws_sdk_ec2::types::{Filter, ResourceType, Tag, TagSpecification};

pub(crate) const TAG_GENERATION: &str = "infra:generation";
/// The name of the image in infra.yml when the instance was made.
pub(crate) const TAG_IMAGE: &str = "infra:image";

/// Returns the tags of a resource of this environment, with its name for the console.
pub(crate) fn tags(names: &Names, shown: &str, role: Option<Role>) -> Vec<(String, String)> {
    let mut tags = vec![
        ("Name".to_string(), shown.to_string()),
        (TAG_NAME.to_string(), names.name.clone()),
        (TAG_ENV.to_string(), names.env.clone()),
    ];
    tags.extend(role.map(|role| (TAG_ROLE.to_string(), role.to_string())));
    tags
}

fn specification(kind: ResourceType, tags: &[(String, String)]) -> TagSpecification {
    let tags = tags
        .iter()
        .map(|(key, value)| Tag::builder().key(key).value(value).build())
        .collect();
    TagSpecification::builder()
        .resource_type(kind)
        .set_tags(Some(tags))
        .build()
}

fn filter(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
}

/// Returns filters for the tags of this environment.
fn ours(names: &Names) -> Vec<Filter> {
    vec![
        filter(&format!("tag:{TAG_NAME}"), &names.name),
        filter(&format!("tag:{TAG_ENV}"), &names.env),
    ]
}

fn tag<'a>(tags: &'a [Tag], key: &str) -> Option<&'a str> {
    tags.iter().find(|tag| tag.key() == Some(key)).and_then(Tag::value)
}
