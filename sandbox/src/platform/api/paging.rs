//! Pages of lists: `Range` in, `206` and `Next-Range` out.

use std::cmp::Ordering;

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::answers::Answer;
use crate::platform::model::Refusal;

/// A client's wish: `id ]abc..; max=10, order=desc`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    field: String,
    start: String,
    start_is_excluded: bool,
    max: usize,
    descending: bool,
}

/// Answers with a page of `items`, which are objects with an `id`; `page_size` is the most.
pub(super) fn list(headers: &HeaderMap, items: Vec<Value>, page_size: usize) -> Answer {
    let wanted = match headers.get(header::RANGE) {
        None => Range::parse("id ..", page_size)?,
        Some(value) => Range::parse(value.to_str().unwrap_or_default(), page_size)?,
    };
    let (part, next) = wanted.part(items);
    let content_range = match (part.first(), part.last()) {
        (Some(first), Some(last)) => {
            let edge = |item: &Value| text(&item[&wanted.field]);
            format!("{} {}..{}; max={}", wanted.field, edge(first), edge(last), wanted.max)
        }
        _ => format!("{} ..; max={}", wanted.field, wanted.max),
    };
    let status = if next.is_some() {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    };
    let mut response = (status, Json(part)).into_response();
    put(&mut response, header::CONTENT_RANGE, &content_range);
    put(&mut response, header::ACCEPT_RANGES, "id, name, version");
    if let Some(next) = next {
        put(&mut response, HeaderName::from_static("next-range"), &next);
    }
    Ok(response)
}

fn put(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

impl Range {
    fn parse(text: &str, page_size: usize) -> Answer<Self> {
        let refused = || Refusal::new(416, "bad_range", format!("The Range {text:?} is not understood"));
        let (what, options) = text.split_once(';').unwrap_or((text, ""));
        let (field, bounds) = what.trim().split_once(' ').unwrap_or((what.trim(), ".."));
        let (start, _end) = bounds.trim().split_once("..").ok_or_else(refused)?;
        let start_is_excluded = start.starts_with(']');
        let start = start.trim_start_matches(']').to_owned();
        let mut range = Self {
            field: field.to_owned(),
            start,
            start_is_excluded,
            max: page_size,
            descending: false,
        };
        for option in options
            .split([',', ';'])
            .map(str::trim)
            .filter(|option| !option.is_empty())
        {
            match option.split_once('=') {
                Some(("max", number)) => {
                    range.max = number
                        .parse::<usize>()
                        .map_err(|_| refused())?
                        .clamp(1, page_size.max(1));
                }
                Some(("order", order)) => range.descending = order == "desc",
                _ => return Err(refused()),
            }
        }
        Ok(range)
    }

    /// Returns the page, and the range that follows it if there is more.
    fn part(&self, mut items: Vec<Value>) -> (Vec<Value>, Option<String>) {
        let directed = |order: Ordering| if self.descending { order.reverse() } else { order };
        items.sort_by(|one, other| directed(compare(&one[&self.field], &text(&other[&self.field]))));
        if !self.start.is_empty() {
            items.retain(|item| match directed(compare(&item[&self.field], &self.start)) {
                Ordering::Less => false,
                Ordering::Equal => !self.start_is_excluded,
                Ordering::Greater => true,
            });
        }
        let more = items.len() > self.max;
        items.truncate(self.max);
        let order = if self.descending { ", order=desc" } else { "" };
        let next = items.last().filter(|_| more).map(|last| {
            format!(
                "{} ]{}..; max={}{order}",
                self.field,
                text(&last[&self.field]),
                self.max
            )
        });
        (items, next)
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Compares numbers as numbers, and all else as text.
fn compare(value: &Value, other: &str) -> Ordering {
    match (value.as_u64(), other.parse::<u64>()) {
        (Some(number), Ok(other)) => number.cmp(&other),
        _ => text(value).as_str().cmp(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn versions(range: &str, page_size: usize) -> (Vec<u64>, Option<String>) {
        let items = [3, 1, 12, 2, 5]
            .map(|version| json!({"id": "x", "version": version}))
            .to_vec();
        let (part, next) = Range::parse(range, page_size).unwrap().part(items);
        (
            part.iter().map(|item| item["version"].as_u64().unwrap()).collect(),
            next,
        )
    }

    #[test]
    fn following_next_range_gives_every_item_once() {
        for start in [
            "version ..; max=2",
            "version ..; max=2, order=desc",
            "version ..; order=desc,max=2",
        ] {
            let (mut seen, mut next) = versions(start, 200);
            while let Some(range) = next {
                let (more, following) = versions(&range, 200);
                seen.extend(more);
                next = following;
            }
            let descending = start.contains("desc");
            assert_eq!(seen, if descending { [12, 5, 3, 2, 1] } else { [1, 2, 3, 5, 12] });
        }
    }

    #[test]
    fn a_page_is_never_longer_than_the_platform_allows() {
        assert_eq!(versions("version ..; max=1000", 3).0, [1, 2, 3]);
        assert_eq!(versions("version ..", 10), (vec![1, 2, 3, 5, 12], None));
        assert_eq!(versions("version 3..; max=1", 10).0, [3]);
        assert!(Range::parse("version", 3).is_ok());
        assert!(Range::parse("version ..; max=many", 3).is_err());
    }
}
