//! AWS permissions of this program: one per call, and others that AWS requires. `effects::cloud`
//! names one in each call. `decide::cloud` makes the policies of operators from them.
//!
//! Source of actions, resources and condition keys: AWS's Service Authorization Reference.

use Scope::{Any, Backups, Bucket, Ec2, Image, KeyPair, Newly, Parameters, Path, Profile, Publics, Role, State};
use When::{Always, Asked, AskedWithTokens, InRegion, MadeHere, Tagged, ToEc2};

/// The resources of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    Any,
    Bucket,
    /// Objects of this environment's state.
    State,
    /// Objects of this environment's backups.
    Backups,
    /// This environment's SSM parameters.
    Parameters,
    /// The parameters that hold the host keys for first contact.
    FirstContact,
    /// The folder of the parameters, for listing them.
    Path,
    /// Public parameters with ids of images.
    Publics,
    Role,
    Profile,
    KeyPair,
    Image,
    /// All EC2 resources of one kind.
    Ec2(&'static str),
    /// Any resource that EC2 makes.
    Newly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    Always,
    InRegion,
    /// The resource has this environment's tags.
    Tagged,
    /// The request gives the resource these tags.
    Asked,
    /// As `Asked`, and the metadata service requires tokens (IMDSv2).
    AskedWithTokens,
    /// As `Asked`, and the resource will be a host of the pair.
    AskedAsHost,
    /// The request gives tags, and the same call makes the resource.
    MadeHere,
    /// The role is for an instance.
    ToEc2,
}

/// The purpose of a permission, which decides who needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Reading what exists.
    Look,
    /// Changes of a running environment: rules, state, replacement of a lost host.
    Work,
    /// Creation, access rights, and protection of the bucket.
    Found,
    /// `down`, and other removals.
    Remove,
    /// Retention of backups, if infra.yml has one.
    Lock,
    /// Removal of objects under a retention in governance mode.
    Bypass,
    /// The network ACL that cuts off an old master whose stop hangs, and its removal.
    Cut,
}

macro_rules! permissions {
    ($($name:ident $service:literal $duty:ident [$(($scope:expr, $when:expr)),*];)*) => {
        /// One action of AWS.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Permission { $($name),* }

        impl Permission {
            pub const ALL: &[Permission] = &[$(Permission::$name),*];

            pub fn action(self) -> &'static str {
                match self { $(Permission::$name => concat!($service, ":", stringify!($name))),* }
            }

            pub fn duty(self) -> Duty {
                match self { $(Permission::$name => Duty::$duty),* }
            }

            /// Returns resources and conditions.
            pub fn grants(self) -> &'static [(Scope, When)] {
                match self { $(Permission::$name => &[$(($scope, $when)),*]),* }
            }
        }
    };
}

permissions! {
    // AWS allows this call to everybody.
    GetCallerIdentity "sts" Look [];

    ListBucket "s3" Look [(Bucket, Always)];
    GetBucketVersioning "s3" Look [(Bucket, Always)];
    GetEncryptionConfiguration "s3" Look [(Bucket, Always)];
    GetBucketPublicAccessBlock "s3" Look [(Bucket, Always)];
    GetBucketTagging "s3" Look [(Bucket, Always)];
    GetBucketPolicy "s3" Look [(Bucket, Always)];
    GetLifecycleConfiguration "s3" Look [(Bucket, Always)];
    GetBucketObjectLockConfiguration "s3" Look [(Bucket, Always)];
    GetObject "s3" Look [(State, Always), (Backups, Always)];
    PutObject "s3" Work [(State, Always)];
    DeleteObject "s3" Work [(State, Always)];
    CreateBucket "s3" Found [(Bucket, Always)];
    PutBucketVersioning "s3" Found [(Bucket, Always)];
    PutEncryptionConfiguration "s3" Found [(Bucket, Always)];
    PutBucketPublicAccessBlock "s3" Found [(Bucket, Always)];
    PutBucketTagging "s3" Found [(Bucket, Always)];
    PutBucketPolicy "s3" Found [(Bucket, Always)];
    PutLifecycleConfiguration "s3" Found [(Bucket, Always)];
    PutBucketObjectLockConfiguration "s3" Lock [(Bucket, Always)];
    GetObjectRetention "s3" Lock [(State, Always), (Backups, Always)];
    BypassGovernanceRetention "s3" Bypass [(State, Always), (Backups, Always)];
    ListBucketVersions "s3" Remove [(Bucket, Always)];
    DeleteObjectVersion "s3" Remove [(State, Always), (Backups, Always)];
    DeleteBucket "s3" Remove [(Bucket, Always)];

    GetParameters "ssm" Look [(Parameters, Always), (Publics, Always)];
    PutParameter "ssm" Work [(Parameters, Always)];
    AddTagsToResource "ssm" Work [(Parameters, Always)];
    GetParametersByPath "ssm" Remove [(Parameters, Always), (Path, Always)];
    DeleteParameters "ssm" Remove [(Parameters, Always)];

    GetRole "iam" Look [(Role, Always)];
    GetRolePolicy "iam" Look [(Role, Always)];
    GetInstanceProfile "iam" Look [(Profile, Always)];
    // A host gets its role when it is made.
    PassRole "iam" Work [(Role, ToEc2)];
    CreateRole "iam" Found [(Role, Always)];
    TagRole "iam" Found [(Role, Always)];
    UpdateAssumeRolePolicy "iam" Found [(Role, Always)];
    PutRolePolicy "iam" Found [(Role, Always)];
    CreateInstanceProfile "iam" Found [(Profile, Always)];
    TagInstanceProfile "iam" Found [(Profile, Always)];
    AddRoleToInstanceProfile "iam" Found [(Profile, Always)];
    RemoveRoleFromInstanceProfile "iam" Remove [(Profile, Always)];
    DeleteInstanceProfile "iam" Remove [(Profile, Always)];
    ListRolePolicies "iam" Remove [(Role, Always)];
    DeleteRolePolicy "iam" Remove [(Role, Always)];
    DeleteRole "iam" Remove [(Role, Always)];

    // CloudWatch has no resources in calls that read figures, and EC2 none in calls that read.
    GetMetricData "cloudwatch" Look [(Any, InRegion)];
    DescribeAddresses "ec2" Look [(Any, InRegion)];
    DescribeImages "ec2" Look [(Any, InRegion)];
    DescribeInstances "ec2" Look [(Any, InRegion)];
    DescribeInstanceTypes "ec2" Look [(Any, InRegion)];
    DescribeInstanceTypeOfferings "ec2" Look [(Any, InRegion)];
    DescribeKeyPairs "ec2" Look [(Any, InRegion)];
    DescribeNetworkAcls "ec2" Look [(Any, InRegion)];
    DescribeSecurityGroups "ec2" Look [(Any, InRegion)];
    DescribeSubnets "ec2" Look [(Any, InRegion)];
    DescribeVolumes "ec2" Look [(Any, InRegion)];
    DescribeVolumesModifications "ec2" Look [(Any, InRegion)];
    RunInstances "ec2" Work [
        (Ec2("instance"), AskedWithTokens), (Ec2("volume"), Asked), (Ec2("security-group"), Tagged), (KeyPair, Always),
        (Ec2("network-interface"), Always), (Ec2("subnet"), Always), (Image, Always)
    ];
    // In the call that makes the tagged resource; and a failover exchanges the tags of two hosts.
    CreateTags "ec2" Work [(Newly, MadeHere), (Ec2("instance"), Tagged)];
    StartInstances "ec2" Work [(Ec2("instance"), Tagged)];
    // The fence of a forced failover, and the way to another instance type.
    StopInstances "ec2" Work [(Ec2("instance"), Tagged)];
    ModifyInstanceAttribute "ec2" Work [(Ec2("instance"), Tagged)];
    ModifyVolume "ec2" Work [(Ec2("volume"), Tagged)];
    AssociateAddress "ec2" Work [(Ec2("elastic-ip"), Tagged), (Ec2("instance"), Tagged)];
    AuthorizeSecurityGroupIngress "ec2" Work [(Ec2("security-group"), Tagged)];
    RevokeSecurityGroupIngress "ec2" Work [(Ec2("security-group"), Tagged)];
    AllocateAddress "ec2" Found [(Ec2("elastic-ip"), Asked)];
    CreateSecurityGroup "ec2" Found [(Ec2("security-group"), Asked), (Ec2("vpc"), Always)];
    // The subnet gets its own ACL back, which has no tag of ours.
    DescribeNetworkInterfaces "ec2" Cut [(Any, InRegion)];
    CreateNetworkAcl "ec2" Cut [(Ec2("network-acl"), Asked), (Ec2("vpc"), Always)];
    ReplaceNetworkAclAssociation "ec2" Cut [(Ec2("network-acl"), Always), (Ec2("subnet"), Always)];
    DeleteNetworkAcl "ec2" Cut [(Ec2("network-acl"), Tagged)];
    ImportKeyPair "ec2" Found [(KeyPair, Always)];
    // Also for replacing the key.
    DeleteKeyPair "ec2" Remove [(KeyPair, Always)];
    TerminateInstances "ec2" Remove [(Ec2("instance"), Tagged)];
    ReleaseAddress "ec2" Remove [(Ec2("elastic-ip"), Tagged)];
    DeleteSecurityGroup "ec2" Remove [(Ec2("security-group"), Tagged)];
}

impl Permission {
    /// Returns true if the call tags the resource that it makes.
    pub fn makes_tagged(self) -> bool {
        matches!(
            self,
            Permission::RunInstances
                | Permission::AllocateAddress
                | Permission::CreateSecurityGroup
                | Permission::CreateNetworkAcl
                | Permission::ImportKeyPair
        )
    }
}
