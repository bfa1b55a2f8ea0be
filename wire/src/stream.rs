//! Cuts a replication stream into commands, however its bytes arrive. Pure.
//!
//! The values of a command may be large and only its keys matter: arguments beyond a bound are counted and not kept.

use crate::bounds::{
    LONGEST_KEPT_ARGUMENT, LONGEST_STREAM_ARGUMENT, LONGEST_STREAM_LINE, MOST_KEPT_ARGUMENTS, MOST_KEPT_BYTES,
};
use crate::resp::length;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    Kept(Vec<u8>),
    /// Too long to keep; how long it was.
    Skipped(u64),
}

impl Argument {
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Argument::Kept(bytes) => Some(bytes),
            Argument::Skipped(_) => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The name first. At least one.
    pub arguments: Vec<Argument>,
    /// The stream's offset after this command.
    pub offset: u64,
}

/// Reads a stream from some offset on.
#[derive(Debug)]
pub struct Decoder {
    /// Bytes taken, counted on from the first offset.
    taken: u64,
    /// The offset after the last whole command.
    position: u64,
    state: State,
    line: Vec<u8>,
    arguments: Vec<Argument>,
    kept: usize,
    arguments_left: u64,
}

#[derive(Debug)]
enum State {
    /// Within a line: a header, or an inline command.
    Line,
    /// Within an argument: what is kept of it, its length, and what is still to come.
    Argument {
        kept: Option<Vec<u8>>,
        length: u64,
        left: u64,
    },
    /// Before the line end that follows an argument.
    ArgumentEnd { argument: Argument, seen: bool },
    /// After something that is no protocol.
    Lost,
}

impl Decoder {
    pub fn at(offset: u64) -> Decoder {
        Decoder {
            taken: offset,
            position: offset,
            state: State::Line,
            line: Vec::new(),
            arguments: Vec::new(),
            kept: 0,
            arguments_left: 0,
        }
    }

    /// The offset after the last whole command, or the blank line, that was read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Takes more bytes and gives every command that they complete. After an error the stream is lost, and every further call gives an error too.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        mut give: impl FnMut(Command) -> Result<(), String>,
    ) -> Result<(), String> {
        while !bytes.is_empty() {
            let before = bytes.len();
            let step = self.step(&mut bytes);
            self.taken += (before - bytes.len()) as u64;
            let step = step.and_then(|whole| {
                if !whole {
                    return Ok(());
                }
                self.position = self.taken;
                match std::mem::take(&mut self.arguments) {
                    arguments if arguments.is_empty() => Ok(()),
                    arguments => give(Command {
                        arguments,
                        offset: self.taken,
                    }),
                }
            });
            if let Err(wrong) = step {
                self.state = State::Lost;
                return Err(format!("{wrong} before offset {}", self.taken));
            }
        }
        Ok(())
    }

    /// Takes some of the bytes; says whether a command is whole with them.
    fn step(&mut self, bytes: &mut &[u8]) -> Result<bool, String> {
        match std::mem::replace(&mut self.state, State::Lost) {
            State::Lost => Err("the stream was lost".into()),
            State::Line => {
                let end = bytes.iter().position(|byte| *byte == b'\n');
                self.line
                    .extend_from_slice(take(bytes, end.map_or(bytes.len(), |end| end + 1)));
                if self.line.len() > LONGEST_STREAM_LINE {
                    return Err("a line without an end".into());
                }
                self.state = State::Line;
                if end.is_none() {
                    return Ok(false);
                }
                let line = std::mem::take(&mut self.line);
                let line = line.strip_suffix(b"\n").unwrap_or(&line);
                self.whole_line(line.strip_suffix(b"\r").unwrap_or(line))
            }
            State::Argument { mut kept, length, left } => {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let part = take(bytes, most);
                if let Some(kept) = &mut kept {
                    kept.extend_from_slice(part);
                }
                let left = left - most as u64;
                self.state = match left {
                    0 => State::ArgumentEnd {
                        argument: kept.map_or(Argument::Skipped(length), Argument::Kept),
                        seen: false,
                    },
                    left => State::Argument { kept, length, left },
                };
                Ok(false)
            }
            State::ArgumentEnd { argument, seen } => match (take(bytes, 1), seen) {
                (b"\r", false) => {
                    self.state = State::ArgumentEnd { argument, seen: true };
                    Ok(false)
                }
                (b"\n", true) => {
                    self.state = State::Line;
                    self.arguments_left -= 1;
                    if self.arguments.len() < MOST_KEPT_ARGUMENTS {
                        self.arguments.push(argument);
                    } else {
                        // One of the last kept arguments stands for all after it: a key that should
                        // be there is found to be skipped.
                        self.arguments[MOST_KEPT_ARGUMENTS - 1] = Argument::Skipped(0);
                    }
                    Ok(self.arguments_left == 0)
                }
                _ => Err("an argument that does not end where it should".into()),
            },
        }
    }

    fn whole_line(&mut self, line: &[u8]) -> Result<bool, String> {
        match (line, self.arguments_left) {
            // Keepalives, which are part of the stream.
            ([], 0) => Ok(true),
            ([b'*', count @ ..], 0) => {
                self.arguments_left = length(count).ok_or("a command with a wrong number of arguments")?;
                self.kept = 0;
                Ok(self.arguments_left == 0)
            }
            ([b'$', digits @ ..], 1..) => {
                let length = length(digits).filter(|length| *length <= LONGEST_STREAM_ARGUMENT);
                let length = length.ok_or("an argument of a wrong length")?;
                let keep = length <= LONGEST_KEPT_ARGUMENT as u64 && self.kept <= MOST_KEPT_BYTES;
                self.kept += if keep { usize::try_from(length).unwrap_or(0) } else { 0 };
                let kept = keep.then(Vec::new);
                self.state = match length {
                    0 => State::ArgumentEnd {
                        argument: Argument::Kept(Vec::new()),
                        seen: false,
                    },
                    left => State::Argument { kept, length, left },
                };
                Ok(false)
            }
            (line, 0) => {
                let words = line
                    .split(|byte| byte.is_ascii_whitespace())
                    .filter(|word| !word.is_empty());
                self.arguments = words.map(|word| Argument::Kept(word.to_vec())).collect();
                Ok(true)
            }
            _ => Err("something that is no argument".into()),
        }
    }
}

fn take<'a>(bytes: &mut &'a [u8], many: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(many);
    *bytes = rest;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::encode;
    use proptest::prelude::*;

    fn encoded(command: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(&mut bytes, &command.iter().map(Vec::as_slice).collect::<Vec<_>>());
        bytes
    }

    fn read(decoder: &mut Decoder, bytes: &[u8]) -> Result<Vec<Command>, String> {
        let mut commands = Vec::new();
        decoder.feed(bytes, |command| {
            commands.push(command);
            Ok(())
        })?;
        Ok(commands)
    }

    fn words(command: &Command) -> Vec<Vec<u8>> {
        command
            .arguments
            .iter()
            .map(|argument| argument.bytes().unwrap().to_vec())
            .collect()
    }

    proptest! {
        #[test]
        fn commands_come_out_as_they_went_in_however_the_bytes_are_split(
            commands in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6), 1..8),
            splits in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
            start in 0u64..1 << 40,
        ) {
            let mut bytes = Vec::new();
            let mut ends = Vec::new();
            for command in &commands {
                bytes.extend(encoded(command));
                ends.push(start + bytes.len() as u64);
            }
            let mut cuts: Vec<usize> = splits.iter().map(|split| split.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut decoder = Decoder::at(start);
            let mut found = Vec::new();
            for cut in cuts.windows(2) {
                found.extend(read(&mut decoder, &bytes[cut[0]..cut[1]]).unwrap());
                let last = found.last().map_or(start, |command: &Command| command.offset);
                prop_assert_eq!(decoder.position(), last);
            }
            prop_assert_eq!(found.iter().map(words).collect::<Vec<_>>(), commands);
            prop_assert_eq!(found.iter().map(|command| command.offset).collect::<Vec<_>>(), ends);
        }

        #[test]
        fn no_bytes_make_it_panic_and_a_lost_stream_stays_lost(bytes: Vec<u8>, more: Vec<u8>) {
            let mut decoder = Decoder::at(0);
            let lost = read(&mut decoder, &bytes).is_err();
            if lost && !more.is_empty() {
                prop_assert!(read(&mut decoder, &more).is_err());
            }
        }

        #[test]
        fn bytes_that_look_like_protocol_do_not_make_it_panic(bytes in "[*$0-9\r\n a]{0,60}") {
            let _ = read(&mut Decoder::at(0), bytes.as_bytes());
        }
    }

    #[test]
    fn blank_lines_and_inline_commands_are_part_of_the_stream() {
        let mut decoder = Decoder::at(100);
        let commands = read(&mut decoder, b"\n\r\nPING\r\n*1\r\n$4\r\nPING\r\n").unwrap();
        assert_eq!(
            commands.iter().map(|command| command.offset).collect::<Vec<_>>(),
            [109, 123]
        );
        assert_eq!(words(&commands[0]), [b"PING".to_vec()]);
    }

    #[test]
    fn what_is_long_is_counted_and_not_kept() {
        let long = vec![b'x'; LONGEST_KEPT_ARGUMENT + 1];
        let bytes = encoded(&[b"SET".to_vec(), b"key".to_vec(), long.clone()]);
        let commands = read(&mut Decoder::at(0), &bytes).unwrap();
        assert_eq!(commands[0].arguments[2], Argument::Skipped(long.len() as u64));
        assert_eq!(
            (commands[0].arguments[1].bytes(), commands[0].offset),
            (Some(&b"key"[..]), bytes.len() as u64)
        );
        let many: Vec<Vec<u8>> = (0..200).map(|_| vec![b'x'; LONGEST_KEPT_ARGUMENT]).collect();
        let commands = read(&mut Decoder::at(0), &encoded(&many)).unwrap();
        let kept: usize = commands[0]
            .arguments
            .iter()
            .filter_map(Argument::bytes)
            .map(<[u8]>::len)
            .sum();
        assert!(kept <= MOST_KEPT_BYTES + LONGEST_KEPT_ARGUMENT && commands[0].arguments.len() == 200);
    }

    #[test]
    fn a_copy_of_the_data_set_or_an_error_is_no_stream_of_commands() {
        for wrong in [
            &b"*1\r\n+PING\r\n"[..],
            b"*1\r\n$3\r\nPING\r\n",
            b"*-1\r\n",
            b"*1\r\n$-1\r\n",
            b"*1\r\n$99999999999999\r\n",
        ] {
            assert!(read(&mut Decoder::at(0), wrong).is_err(), "{}", wrong.escape_ascii());
        }
    }
}
