//! The Scheduler add-on: starts one-off dynos every so often, also while the app is in maintenance.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::Server;
use super::model::OneOffRequest;

const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The least at any time scale: a schedule must not keep the computer busy.
const SHORTEST: Duration = Duration::from_millis(100);

/// Starts what is due until the platform ends.
pub(super) async fn follow(server: Arc<Server>) {
    let mut last: HashMap<Uuid, Instant> = HashMap::new();
    loop {
        sleep(LOOK_EVERY).await;
        let mut actions = Vec::new();
        {
            let mut platform = server.platform();
            let scheduled: Vec<_> = platform
                .apps
                .iter()
                .filter_map(|app| Some((app.id, app.behaviour.scheduler.clone()?)))
                .collect();
            last.retain(|app, _| scheduled.iter().any(|(id, _)| id == app));
            for (app, scheduler) in scheduled {
                let since = last.entry(app).or_insert_with(Instant::now);
                if since.elapsed() < server.scaled(scheduler.every_seconds).max(SHORTEST) {
                    continue;
                }
                *since = Instant::now();
                let request = OneOffRequest {
                    command: scheduler.command,
                    kind: Some("scheduler".to_owned()),
                    ..OneOffRequest::default()
                };
                match platform.run_one_off(&app.to_string(), request, Timestamp::now()) {
                    Ok((_, starts)) => actions.extend(starts),
                    Err(refusal) => tracing::warn!("the schedule was not kept: {}", refusal.message),
                }
            }
        }
        server.runner.perform(&server, actions);
    }
}
