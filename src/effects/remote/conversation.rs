//! Commands that stay open: one line in, one answer out. Blocking, with a deadline.

use super::channel::{Connection, drain, in_time, patiently, wait_for_socket};
use super::target::Output;
use crate::model::clock::Instant;
use crate::model::error::{Doing, Error, Result};
use std::io::{ErrorKind, Write};

/// Sends `line` to `command` and returns its answer. The last line `= STATUS` becomes the status.
pub fn ask(connection: &mut Connection, command: &str, line: &str, deadline: Instant) -> Result<Output> {
    connection.ready()?;
    let kept = connection.conversations.remove(command);
    let was_kept = kept.is_some();
    let result = match say(connection, kept, command, line, deadline) {
        // The command ended since the last line, for example through an update of the script.
        Ok(Answer::Ended(_)) if was_kept => say(connection, None, command, line, deadline),
        other => other,
    };
    match result {
        Ok(Answer::Whole(output, channel)) => {
            connection.conversations.insert(command.into(), channel);
            Ok(output)
        }
        Ok(Answer::Ended(output)) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
            Err(Error::failed("get an answer: the command ended").because(said))
        }
        Err(error) => {
            connection.broken = true;
            Err(error)
        }
    }
}

enum Answer {
    Whole(Output, ssh2::Channel),
    Ended(Output),
}

fn say(
    connection: &Connection,
    kept: Option<ssh2::Channel>,
    command: &str,
    line: &str,
    deadline: Instant,
) -> Result<Answer> {
    let mut channel = match kept {
        Some(channel) => channel,
        None => {
            let mut channel = patiently(connection, deadline, || connection.session.channel_session())?;
            patiently(connection, deadline, || channel.exec(command))?;
            channel
        }
    };
    let mut output = Output::default();
    let text = format!("{line}\n");
    let mut unsent = text.as_bytes();
    loop {
        in_time(deadline)?;
        let mut moved = false;
        if !unsent.is_empty() && !channel.eof() {
            match channel.write(unsent) {
                Ok(count) => {
                    unsent = &unsent[count..];
                    moved = count > 0;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) if channel.eof() => {}
                Err(error) => return Err(error).doing(|| "send the line".into()),
            }
        }
        moved |= drain(&mut channel.stream(0), &mut output.stdout)?;
        moved |= drain(&mut channel.stderr(), &mut output.stderr)?;
        if let Some(status) = take_status(&mut output.stdout) {
            output.status = status;
            // An answer with its status on stdout has its error text there as well.
            if status != 0 {
                output.stderr.extend_from_slice(&output.stdout);
            }
            return Ok(Answer::Whole(output, channel));
        }
        if channel.eof() {
            return Ok(Answer::Ended(output));
        }
        if !moved && channel.read_window().available == 0 {
            wait_for_socket(connection, deadline)?;
        }
    }
}

/// Returns the status in the last line once that line is complete, and removes the line.
fn take_status(stdout: &mut Vec<u8>) -> Option<i32> {
    let whole = stdout.strip_suffix(b"\n")?;
    let begin = whole.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let status = std::str::from_utf8(whole[begin..].strip_prefix(b"= ")?).ok()?;
    let status = status.parse().ok()?;
    stdout.truncate(begin);
    Some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_of_a_command_does_harm() {
        crate::fuzz::bytes(&["role master\n= 0\n"], &["= ", "\n= "], |input| {
            let _ = take_status(&mut input.to_vec());
        });
    }

    #[test]
    fn an_answer_is_complete_only_with_its_status_line() {
        for (text, status, rest) in [
            ("role master\n= 0\n", Some(0), "role master\n"),
            ("= 3\n", Some(3), ""),
            ("role master\n= 0", None, "role master\n= 0"),
            ("role master\n", None, "role master\n"),
            ("= x\n", None, "= x\n"),
        ] {
            let mut bytes = text.as_bytes().to_vec();
            assert_eq!(take_status(&mut bytes), status);
            assert_eq!(bytes, rest.as_bytes());
        }
    }
}
