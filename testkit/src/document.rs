//! Parts of documents that are made from the code, each between two marks.

/// Holds that the document's part `name` is `made`; `UPDATE_DOCS=1` writes it anew instead.
pub fn holds(document: &str, name: &str, made: &str) {
    let text = std::fs::read_to_string(document).unwrap();
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let (before, rest) = text.split_once(&begin).unwrap();
    let (there, after) = rest.split_once(&end).unwrap();
    if there != made && std::env::var("UPDATE_DOCS").is_ok_and(|value| value == "1") {
        std::fs::write(document, format!("{before}{begin}{made}{end}{after}")).unwrap();
        return;
    }
    assert_eq!(there, made, "UPDATE_DOCS=1 writes this part of {document} anew");
}
