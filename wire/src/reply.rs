//! Parts of replies. What is of another form than was asked for is nothing.

use redis::Value;
use std::collections::HashMap;

pub fn array(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) | Value::Set(values) => Some(values),
        _ => None,
    }
}

/// Returns the texts of a list; what else is in it is left out.
pub fn words(value: Value) -> Option<Vec<String>> {
    Some(array(value)?.iter().filter_map(text).collect())
}

/// Reads a flat list of names and values, as RESP2 has it, or a map.
pub fn pairs(value: Value) -> Option<HashMap<String, Value>> {
    let pairs: Vec<(Value, Value)> = match value {
        Value::Map(pairs) => pairs,
        other => {
            let mut flat = array(other)?.into_iter();
            std::iter::from_fn(|| Some((flat.next()?, flat.next()?))).collect()
        }
    };
    let named = pairs.into_iter();
    Some(named.filter_map(|(name, value)| Some((text(&name)?, value))).collect())
}

pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

/// Returns a text as well as it can be shown, also of numbers.
pub fn text_lossy(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        Value::Okay => Some("OK".into()),
        _ => None,
    }
}

pub fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        Value::Int(number) => Some(number.to_string().into_bytes()),
        _ => None,
    }
}

pub fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::BulkString(bytes) => crate::resp::number(bytes),
        Value::SimpleString(text) => text.parse().ok(),
        _ => None,
    }
}
