//! The addresses that an app's processes come from: fixed in a Private Space, otherwise any.

use super::Heroku;
use crate::effects::platform::Egress;
use crate::model::error::{Error, Result};
use serde::Deserialize;
use std::net::Ipv4Addr;

#[derive(Deserialize)]
struct Nat {
    #[serde(default)]
    sources: Vec<String>,
    #[serde(default)]
    state: String,
}

impl Heroku {
    pub async fn egress(&self) -> Result<Egress> {
        let Some(space) = self.app().await?.space else {
            return Ok(Egress::Anywhere);
        };
        let doing = format!("read the addresses of the Private Space {space}");
        let nat: Nat = self.http.get(&format!("/spaces/{space}/nat"), &doing).await?;
        // An error, since falling back to all addresses would open Redis to the world.
        let unknown = |why: String| {
            Error::failed(doing.clone())
                .because(why)
                .hint("name who may reach Redis in hosts.app_cidrs of infra.yml, or try again when the space has its addresses")
        };
        if nat.state != "enabled" || nat.sources.is_empty() {
            return Err(unknown(format!(
                "their state is {:?}, and the platform names {} of them",
                nat.state,
                nat.sources.len()
            )));
        }
        let parse = |source: &String| {
            let address = source.trim_end_matches("/32").parse::<Ipv4Addr>();
            address.map_err(|_| unknown(format!("{source:?} is no IPv4 address")))
        };
        let addresses = nat.sources.iter().map(parse).collect::<Result<Vec<_>>>()?;
        Ok(Egress::Space { name: space, addresses })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Stand;
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn an_app_in_a_space_comes_from_its_addresses_and_another_from_anywhere() {
        let stand = Stand::new().await;
        assert_eq!(stand.heroku.egress().await.unwrap(), Egress::Anywhere);
        stand
            .admin("spaces/quiet", json!({"sources": ["192.0.2.1", "192.0.2.2"]}))
            .await;
        stand
            .admin("apps", json!({"name": "inside", "region": "us", "space": "quiet"}))
            .await;
        let inside = stand.heroku.of("inside");
        let Egress::Space { name, addresses } = inside.egress().await.unwrap() else {
            panic!("it is in a space");
        };
        assert_eq!((name.as_str(), addresses.len()), ("quiet", 2));
        // A space without known addresses must not open Redis to everybody.
        stand.admin("spaces/quiet", json!({"sources": []})).await;
        let error = inside.egress().await.unwrap_err();
        assert!(error.next_step().unwrap().contains("hosts.app_cidrs"), "{error:?}");
    }
}
