//! The text form of a PostgreSQL array: `{1,NULL,"a \"quoted\" text",{…}}`.

/// An element of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Element {
    Null,
    Text(String),
    Array(Vec<Element>),
}

/// Deeper ones cannot exist: PostgreSQL has at most six dimensions.
const DEEPEST: usize = 6;

/// Reads an array's text; `None` if it is malformed.
pub fn parse(text: &str, separator: char) -> Option<Vec<Element>> {
    // Bounds that do not begin at 1 come first: `[0:1]={a,b}`.
    let body = match text.strip_prefix('[') {
        Some(_) => text.split_once("]=").map(|(_, body)| body)?,
        None => text,
    };
    let mut reader = Reader { rest: body, separator };
    let elements = reader.array(1)?;
    reader.rest.is_empty().then_some(elements)
}

struct Reader<'a> {
    rest: &'a str,
    separator: char,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let letter = self.rest.chars().next()?;
        self.rest = &self.rest[letter.len_utf8()..];
        Some(letter)
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn array(&mut self, depth: usize) -> Option<Vec<Element>> {
        if depth > DEEPEST || self.next()? != '{' {
            return None;
        }
        let mut elements = Vec::new();
        if self.peek()? == '}' {
            self.next();
            return Some(elements);
        }
        loop {
            elements.push(match self.peek()? {
                '{' => Element::Array(self.array(depth + 1)?),
                '"' => Element::Text(self.quoted()?),
                _ => self.bare()?,
            });
            match self.next()? {
                '}' => return Some(elements),
                letter if letter == self.separator => {}
                _ => return None,
            }
        }
    }

    fn quoted(&mut self) -> Option<String> {
        self.next();
        let mut text = String::new();
        loop {
            match self.next()? {
                '"' => return Some(text),
                '\\' => text.push(self.next()?),
                letter => text.push(letter),
            }
        }
    }

    fn bare(&mut self) -> Option<Element> {
        let end = self.rest.find([self.separator, '}'])?;
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        if text.is_empty() {
            return None;
        }
        let is_null = text.eq_ignore_ascii_case("null");
        Some(if is_null {
            Element::Null
        } else {
            Element::Text(text.to_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> Element {
        Element::Text(text.into())
    }

    #[test]
    fn quotes_nulls_and_dimensions_are_read() {
        let read = |array: &str| parse(array, ',').unwrap();
        assert_eq!(read("{}"), []);
        assert_eq!(read("{1,NULL,\"NULL\"}"), [text("1"), Element::Null, text("NULL")]);
        assert_eq!(read("{\"a,b\",\"\\\"c\\\\\"}"), [text("a,b"), text("\"c\\")]);
        let inner = |element: &str| Element::Array(vec![text(element)]);
        assert_eq!(read("{{a},{b}}"), [inner("a"), inner("b")]);
        assert_eq!(read("[0:1]={a,b}"), [text("a"), text("b")]);
        for wrong in ["", "{", "a", "{a}}", "{a,}", "{\"a}", "{{{{{{{a}}}}}}}"] {
            assert_eq!(parse(wrong, ','), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn quoted_elements_come_back_whatever_they_hold(elements: Vec<String>) {
            let quoted: Vec<String> = elements
                .iter()
                .map(|element| format!("\"{}\"", element.replace('\\', "\\\\").replace('"', "\\\"")))
                .collect();
            let read = parse(&format!("{{{}}}", quoted.join(",")), ',').unwrap();
            let expected: Vec<Element> = elements.into_iter().map(Element::Text).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn malformed_text_is_refused_without_a_panic(array in "[{}\",a\\\\\\[\\]=0-9]{0,20}") {
            let _ = parse(&array, ',');
        }
    }
}
