//! Stops and ends instances, and waits until EC2 says so.

use crate::effects::cloud::{Cloud, ec2};
use crate::effects::wait::{Look, Wait};
use crate::model::error::Result;
use crate::ui::Step;
use std::cell::Cell;
use std::time::Duration;

/// How long an instance may take to stop or end. EC2 itself stops one hard after some minutes.
const ENDED: Duration = Duration::from_secs(600);

/// Stops an instance in order.
pub async fn stop(cloud: &Cloud, step: &Step, id: &str) -> Result<()> {
    let what = format!("{id} to stop");
    let hint = format!(
        "stop it hard with `aws ec2 stop-instances --force --instance-ids {id}`, then run the same command again"
    );
    let asked = Cell::new(false);
    let asked = &asked;
    Wait::new(&what, ENDED, &hint)
        .until(step, || async move {
            let state = ec2::state_of(cloud, id).await?.unwrap_or_default();
            match state.as_str() {
                "stopped" => return Ok(Look::Ready(())),
                "running" if !asked.get() => {
                    ec2::stop(cloud, id, false).await?;
                    asked.set(true);
                }
                _ => {}
            }
            Ok(Look::NotYet(format!("{id} is {state}")))
        })
        .await
}

/// Ends an instance for good, with its disk.
pub async fn end(cloud: &Cloud, step: &Step, id: &str) -> Result<()> {
    let what = format!("{id} to end");
    let hint = format!(
        "see what EC2 says with `aws ec2 describe-instances --instance-ids {id}`, then run the same command again"
    );
    ec2::terminate(cloud, &[id.to_string()]).await?;
    Wait::new(&what, ENDED, &hint)
        .until(step, || async {
            // EC2 forgets an instance some time after its end.
            let state = ec2::state_of(cloud, id).await?.unwrap_or("terminated".into());
            Ok(Look::when(state == "terminated", format!("{id} is {state}")))
        })
        .await
}
