//! The security group of a pair.

use super::{filter, ours, specification, tags};
use crate::effects::cloud::Cloud;
use crate::effects::cloud::failure::{Explain, NO_GROUP, code};
use crate::model::cloud::{Group, Permission, Rule, Source};
use crate::model::error::{Error, Result};
use crate::model::names::Names;
use aws_sdk_ec2::types::{Filter, IpPermission, IpRange, Ipv6Range, PrefixListId, ResourceType, UserIdGroupPair};
use std::collections::BTreeSet;

/// Returns the environment's group, by its tags and its name.
pub async fn group(cloud: &Cloud, names: &Names) -> Result<Option<Group>> {
    let name = names.resource();
    let mut filters = ours(names);
    filters.push(filter("group-name", &name));
    let mut found = describe(cloud, filters, &name).await?;
    if found.len() > 1 {
        let ids: Vec<String> = found.into_iter().map(|group| group.id).collect();
        return Err(Error::failed(format!(
            "tell which security group is {name}: {} all carry its tags",
            ids.join(", ")
        ))
        .hint("remove those that no instance is in"));
    }
    Ok(found.pop())
}

/// Returns all groups with the environment's tags.
pub async fn groups(cloud: &Cloud, names: &Names) -> Result<Vec<Group>> {
    describe(cloud, ours(names), &names.resource()).await
}

async fn describe(cloud: &Cloud, filters: Vec<Filter>, name: &str) -> Result<Vec<Group>> {
    let answer = cloud
        .ec2
        .describe_security_groups()
        .set_filters(Some(filters))
        .send()
        .await
        .explain(Permission::DescribeSecurityGroups, || {
            format!("look for the security group {name}")
        })?;
    let groups = answer
        .security_groups
        .unwrap_or_default()
        .into_iter()
        .filter_map(|group| {
            let id = group.group_id?;
            let rules = rules(&id, &group.ip_permissions.unwrap_or_default());
            Some(Group { id, rules })
        });
    Ok(groups.collect())
}

pub async fn create_group(cloud: &Cloud, names: &Names, name: &str, vpc: &str) -> Result<String> {
    let created = cloud
        .ec2
        .create_security_group()
        .group_name(name)
        .description(format!("Redis hosts of {} ({})", names.name, names.env))
        .vpc_id(vpc)
        .tag_specifications(specification(ResourceType::SecurityGroup, &tags(names, name, None)))
        .send()
        .await;
    match created {
        // A repeated request finds its group; a group without our tags is not ours.
        Err(error) if code(&error) == "InvalidGroup.Duplicate" => match group(cloud, names).await? {
            Some(group) => Ok(group.id),
            None => Err(Error::failed(format!("create the security group {name} in {vpc}"))
                .because("there is one of this name that does not carry the environment's tags")
                .hint(format!(
                    "remove the security group {name}, or choose another `name` in infra.yml"
                ))),
        },
        created => created
            .explain(Permission::CreateSecurityGroup, || {
                format!("create the security group {name} in {vpc}")
            })?
            .group_id
            .ok_or_else(|| Error::failed(format!("create the security group {name}")).because("EC2 gave no id")),
    }
}

/// Allows the traffic of a rule.
pub async fn authorize(cloud: &Cloud, group: &str, rule: &Rule) -> Result<()> {
    let authorize = cloud.ec2.authorize_security_group_ingress().group_id(group);
    let authorize = authorize.ip_permissions(permission(group, rule));
    let needed = Permission::AuthorizeSecurityGroupIngress;
    let doing = || format!("allow {rule} in {group}");
    match cloud
        .patience
        .answer(needed, doing, || authorize.clone().send())
        .await?
    {
        Err(error) if code(&error) == "InvalidPermission.Duplicate" => Ok(()),
        done => done.map(drop).explain(needed, doing),
    }
}

pub async fn revoke(cloud: &Cloud, group: &str, rule: &Rule) -> Result<()> {
    let permission = permission(group, rule);
    match cloud
        .ec2
        .revoke_security_group_ingress()
        .group_id(group)
        .ip_permissions(permission)
        .send()
        .await
    {
        Err(error) if code(&error) == "InvalidPermission.NotFound" => Ok(()),
        done => done.map(|_| ()).explain(Permission::RevokeSecurityGroupIngress, || {
            format!("no longer allow {rule} in {group}")
        }),
    }
}

/// Removes the group. Returns false while it is in use.
pub async fn delete_group(cloud: &Cloud, id: &str) -> Result<bool> {
    match cloud.ec2.delete_security_group().group_id(id).send().await {
        Err(error) if NO_GROUP.contains(&code(&error)) => Ok(true),
        Err(error) if matches!(code(&error), "DependencyViolation" | "InvalidGroup.InUse") => Ok(false),
        answer => answer.map(|_| true).explain(Permission::DeleteSecurityGroup, || {
            format!("remove the security group {id}")
        }),
    }
}

fn rules(group: &str, permissions: &[IpPermission]) -> BTreeSet<Rule> {
    let mut rules = BTreeSet::new();
    for permission in permissions {
        let ipv4 = permission
            .ip_ranges()
            .iter()
            .filter_map(|range| range.cidr_ip())
            .map(|cidr| Source::Ipv4(cidr.into()));
        let ipv6 = permission
            .ipv6_ranges()
            .iter()
            .filter_map(|range| range.cidr_ipv6())
            .map(|cidr| Source::Ipv6(cidr.into()));
        let groups = permission
            .user_id_group_pairs()
            .iter()
            .filter_map(|pair| pair.group_id())
            .map(|id| {
                if id == group {
                    Source::Members
                } else {
                    Source::Group(id.into())
                }
            });
        let lists = permission
            .prefix_list_ids()
            .iter()
            .filter_map(|list| list.prefix_list_id())
            .map(|id| Source::PrefixList(id.into()));
        rules.extend(ipv4.chain(ipv6).chain(groups).chain(lists).map(|source| Rule {
            protocol: permission.ip_protocol().unwrap_or("-1").to_string(),
            from_port: permission.from_port(),
            to_port: permission.to_port(),
            source,
        }));
    }
    rules
}

fn permission(group: &str, rule: &Rule) -> IpPermission {
    let permission = IpPermission::builder()
        .ip_protocol(&rule.protocol)
        .set_from_port(rule.from_port)
        .set_to_port(rule.to_port);
    let pair = |id: &str| UserIdGroupPair::builder().group_id(id).build();
    match &rule.source {
        Source::Ipv4(cidr) => permission.ip_ranges(IpRange::builder().cidr_ip(cidr).build()),
        Source::Ipv6(cidr) => permission.ipv6_ranges(Ipv6Range::builder().cidr_ipv6(cidr).build()),
        Source::Members => permission.user_id_group_pairs(pair(group)),
        Source::Group(id) => permission.user_id_group_pairs(pair(id)),
        Source::PrefixList(id) => permission.prefix_list_ids(PrefixListId::builder().prefix_list_id(id).build()),
    }
    .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_rule_is_read_back_from_ec2_s_form() {
        let sources = [
            Source::Ipv4("203.0.113.7/32".into()),
            Source::Ipv6("2001:db8::/32".into()),
            Source::Members,
            Source::Group("sg-2".into()),
            Source::PrefixList("pl-1".into()),
        ];
        for source in sources {
            let rule = Rule::tcp(6379, source);
            let back = rules("sg-1", &[permission("sg-1", &rule)]);
            assert_eq!(back.into_iter().collect::<Vec<_>>(), [rule]);
        }
    }
}
