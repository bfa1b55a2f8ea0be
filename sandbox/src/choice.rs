//! Choices on the command line, by their names.

use clap::ValueEnum;

/// Returns the name as on the command line.
pub fn name_of(choice: &impl ValueEnum) -> String {
    let value = choice.to_possible_value();
    value.map(|value| value.get_name().to_owned()).unwrap_or_default()
}
