//! Builds the least policy for whoever runs this program, from the permissions of its calls.

use crate::model::cloud::{
    Duty, LockMode, ObjectLock, Permission, Scope, TAG_ENV, TAG_NAME, TAG_ROLE, When, ec2_service,
};
use crate::model::names::Names;
use crate::model::role::Role;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// AWS's limit for a managed policy, in characters without whitespace.
pub const LONGEST_POLICY: usize = 6144;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A person: every command.
    Operator,
    /// An automatic run on an existing environment: `check`, `up`, `status`, `verify`, `promote`,
    /// `switch-app`, `resize`, `upgrade` and `backup`. It cannot change permissions or the bucket's protection, remove
    /// anything, or make instances beside the pair, since it could not end them.
    Ci,
    /// A user who may also cut off an old master by a network ACL, in addition to one of the others: it can
    /// cut off any subnet of the region.
    Fence,
}

/// A removal that CI may do all the same: the key of a host's first contact, worthless after use.
const ALSO_OF_CI: [(Permission, Scope, When); 1] = [(Permission::DeleteParameters, Scope::FirstContact, When::Always)];
/// The tags of the ACL, which come with the call that makes it.
const ALSO_OF_FENCE: [(Permission, Scope, When); 1] = [(Permission::CreateTags, Scope::Newly, When::MadeHere)];

fn permissions(who: Who, lock: Option<ObjectLock>) -> Vec<Permission> {
    let governed = lock.is_some_and(|lock| lock.mode == LockMode::Governance);
    let needed = |permission: &Permission| match (permission.duty(), who) {
        (Duty::Look | Duty::Work, Who::Operator | Who::Ci)
        | (Duty::Found | Duty::Remove, Who::Operator)
        | (Duty::Cut, Who::Fence) => true,
        (Duty::Lock, Who::Operator) => lock.is_some(),
        (Duty::Bypass, Who::Operator) => governed,
        (_, Who::Ci | Who::Fence) | (Duty::Cut, Who::Operator) => false,
    };
    Permission::ALL.iter().copied().filter(needed).collect()
}

/// Returns the policy of these users. `lock` is the retention that infra.yml asks for.
pub fn policy(names: &Names, who: Who, lock: Option<ObjectLock>) -> Value {
    let permissions = permissions(who, lock);
    let mut by_place: BTreeMap<(When, Scope), BTreeSet<&str>> = BTreeMap::new();
    for permission in &permissions {
        for (scope, when) in permission.grants() {
            let place = (when.narrowed(who), *scope);
            by_place.entry(place).or_default().insert(permission.action());
        }
    }
    let also: &[(Permission, Scope, When)] = match who {
        Who::Operator => &[],
        Who::Ci => &ALSO_OF_CI,
        Who::Fence => &ALSO_OF_FENCE,
    };
    for (permission, scope, when) in also {
        by_place.entry((*when, *scope)).or_default().insert(permission.action());
    }
    // Places with the same permitted actions make one statement.
    let mut statements = Statements::new();
    for ((when, scope), actions) in by_place {
        statements.entry((when, actions)).or_default().push(scope.arn(names));
    }
    let makers: Vec<&str> = permissions
        .iter()
        .filter(|permission| permission.makes_tagged())
        .filter_map(|permission| permission.action().split(':').nth(1))
        .collect();
    let statements: Vec<Value> = joined(statements)
        .into_iter()
        .map(|((when, actions), resources)| {
            let mut statement =
                json!({ "Effect": "Allow", "Action": one_or_all(actions), "Resource": one_or_all(resources) });
            if let Some(condition) = when.condition(names, &makers) {
                statement["Condition"] = json!({ "StringEquals": condition });
            }
            statement
        })
        .collect();
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// The resources of each set of actions.
type Statements = BTreeMap<(When, BTreeSet<&'static str>), Vec<String>>;

/// Joins statements about tagged resources: a policy has a limited length, and each of them repeats the tags. An
/// action means nothing for a resource of a kind that is not its own. CreateTags is for every kind, so it stays alone.
fn joined(statements: Statements) -> Statements {
    let mut joined = Statements::new();
    let mut tagged: (BTreeSet<&str>, Vec<String>) = Default::default();
    for ((when, actions), resources) in statements {
        if when == When::Tagged && !actions.contains(Permission::CreateTags.action()) {
            tagged.0.extend(actions);
            tagged.1.extend(resources);
        } else {
            joined.insert((when, actions), resources);
        }
    }
    if !tagged.0.is_empty() {
        joined.insert((When::Tagged, tagged.0), tagged.1);
    }
    joined
}

fn one_or_all<T: Into<Value>>(values: impl IntoIterator<Item = T>) -> Value {
    let mut values: Vec<Value> = values.into_iter().map(Into::into).collect();
    match values.len() {
        1 => values.remove(0),
        _ => Value::Array(values),
    }
}

impl Scope {
    fn arn(self, names: &Names) -> String {
        let (partition, region, account) = (names.partition(), &names.region, &names.account);
        let bucket = format!("arn:{partition}:s3:::{}", names.bucket());
        let parameter = |account: &str, name: &str| format!("arn:{partition}:ssm:{region}:{account}:parameter{name}");
        let iam = |kind: &str| format!("arn:{partition}:iam::{account}:{kind}/{}", names.resource());
        let ec2 = |account: &str, rest: &str| format!("arn:{partition}:ec2:{region}:{account}:{rest}");
        match self {
            Scope::Any => "*".into(),
            Scope::Bucket => bucket,
            Scope::State => format!("{bucket}/{}*", names.state()),
            Scope::Backups => format!("{bucket}/{}*", names.backups()),
            Scope::Parameters => parameter(account, &format!("{}*", names.parameters())),
            Scope::FirstContact => parameter(account, &format!("{}bootstrap-host-key/*", names.parameters())),
            Scope::Path => parameter(account, names.parameters().trim_end_matches('/')),
            // AWS's own parameters belong to no account.
            Scope::Publics => parameter("", "/aws/service/debian/*"),
            Scope::Image => ec2("", "image/*"),
            Scope::Role => iam("role"),
            Scope::Profile => iam("instance-profile"),
            Scope::KeyPair => ec2(account, &format!("key-pair/{}", names.resource())),
            Scope::Ec2(kind) => ec2(account, &format!("{kind}/*")),
            Scope::Newly => ec2(account, "*/*"),
        }
    }
}

impl When {
    fn narrowed(self, who: Who) -> Self {
        match (self, who) {
            (When::AskedWithTokens, Who::Ci) => When::AskedAsHost,
            (when, _) => when,
        }
    }

    fn condition(self, names: &Names, makers: &[&str]) -> Option<Map<String, Value>> {
        let mut keys = Map::new();
        let mut tags = |of: &str| {
            for (tag, value) in [(TAG_NAME, &names.name), (TAG_ENV, &names.env)] {
                keys.insert(format!("aws:{of}/{tag}"), value.clone().into());
            }
        };
        match self {
            When::Always => return None,
            When::Tagged => tags("ResourceTag"),
            When::Asked | When::AskedWithTokens | When::AskedAsHost | When::MadeHere => tags("RequestTag"),
            When::InRegion | When::ToEc2 => {}
        }
        if self == When::AskedAsHost {
            let roles = one_or_all(Role::ALL.map(Role::name));
            keys.insert(format!("aws:RequestTag/{TAG_ROLE}"), roles);
        }
        match self {
            When::InRegion => keys.insert("aws:RequestedRegion".into(), names.region.clone().into()),
            When::AskedWithTokens | When::AskedAsHost => {
                keys.insert("ec2:MetadataHttpTokens".into(), "required".into())
            }
            When::MadeHere => keys.insert("ec2:CreateAction".into(), one_or_all(makers.iter().copied())),
            When::ToEc2 => keys.insert("iam:PassedToService".into(), ec2_service(names).into()),
            _ => None,
        };
        Some(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new("demo", "production", "123456789012", "us-east-1").unwrap()
    }

    #[test]
    fn each_policy_is_as_people_see_it() {
        insta::assert_json_snapshot!("operator", policy(&names(), Who::Operator, None));
        insta::assert_json_snapshot!("ci", policy(&names(), Who::Ci, None));
        insta::assert_json_snapshot!("fence", policy(&names(), Who::Fence, None));
    }

    #[test]
    fn a_policy_with_the_longest_names_fits_a_managed_policy() {
        let name = "a".repeat(23);
        let names = Names::new(&name, &"e".repeat(34), "123456789012", "us-gov-west-1").unwrap();
        let lock = Some(ObjectLock {
            mode: LockMode::Governance,
            days: 30,
        });
        let text = policy(&names, Who::Operator, lock).to_string();
        assert!(text.len() <= LONGEST_POLICY, "{} characters", text.len());
    }

    #[test]
    fn permissions_for_retention_need_a_retention_in_infra_yml() {
        let with = |mode| permissions(Who::Operator, Some(ObjectLock { mode, days: 3 }));
        let bypass = Permission::BypassGovernanceRetention;
        assert!(with(LockMode::Governance).contains(&bypass));
        assert!(!with(LockMode::Compliance).contains(&bypass));
        assert!(!permissions(Who::Operator, None).contains(&Permission::PutBucketObjectLockConfiguration));
    }

    #[test]
    fn the_policy_for_ci_allows_no_removal_and_no_change_of_policies() {
        for permission in permissions(Who::Ci, None) {
            let action = permission.action();
            let forbidden = [
                "Delete",
                "Terminate",
                "Release",
                "PutBucket",
                "PutRole",
                "Create",
                "Bypass",
                "UpdateAssume",
            ];
            let exempt = ["s3:DeleteObject", "ec2:CreateTags"];
            let verb = action.split(':').nth(1).unwrap();
            assert!(
                exempt.contains(&action) || !forbidden.iter().any(|word| verb.starts_with(word)),
                "{action}"
            );
        }
    }
}
