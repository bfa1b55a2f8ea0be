//! A network ACL of ours that cuts a subnet off, and the host that it is meant for.

/// A network ACL that denies everything, in the place of the subnet's own one.
///
/// An entry of an ACL names the other end of a packet and never the host within the subnet. So an
/// ACL cuts off all of a subnet, and is used only if nobody else is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkFence {
    pub acl: String,
    pub vpc: String,
    /// The ACL that the subnet gets back.
    pub replaced: String,
    /// The instance that is cut off.
    pub instance: String,
    /// The subnet that it is in force for, with the id of that association; `None`: for none.
    pub association: Option<(String, String)>,
}

/// The network of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub vpc: String,
    pub subnet: String,
    /// The network interfaces of others in the subnet.
    pub others: Vec<String>,
}

impl Place {
    /// Returns why an ACL must not be used here; `None` if it would cut off only the instance.
    pub fn objection(&self) -> Option<String> {
        match self.others.as_slice() {
            [] => None,
            [first, rest @ ..] => {
                let more = match rest.len() {
                    0 => String::new(),
                    count => format!(" and {count} more"),
                };
                Some(format!(
                    "its subnet {} is not its own: an ACL would cut off {first}{more} too",
                    self.subnet
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acl_is_objected_to_as_soon_as_somebody_else_is_in_the_subnet() {
        let place = |others: &[&str]| Place {
            vpc: "vpc-1".into(),
            subnet: "subnet-1".into(),
            others: others.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(place(&[]).objection(), None);
        let said = place(&["eni-2"]).objection().unwrap();
        assert!(said.ends_with("cut off eni-2 too"), "{said}");
        let said = place(&["eni-2", "eni-3", "eni-4"]).objection().unwrap();
        assert!(said.ends_with("cut off eni-2 and 2 more too"), "{said}");
    }
}
