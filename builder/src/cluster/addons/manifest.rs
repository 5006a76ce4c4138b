//! One manifest: YAML documents, each a Kubernetes object or a `List` of them.

use std::ops::Range;

use serde_json::Value;

use crate::cluster::text::finding::{Finding, KeyPath, Part, Place};

/// What a text has in it that may hold a Secret: messages about it, which end up in logs, show nothing of it.
pub const SECRET: &str = "Secret";

/// The objects of a manifest in their order, or everything that is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Value>, Vec<Finding>> {
    let mut objects = Vec::new();
    let mut findings = Vec::new();
    for document in documents(text) {
        match value(text, &document) {
            // Nothing but comments.
            Ok(Value::Null) => {}
            Ok(value) => take(value, &place(text, &document), &mut objects, &mut findings),
            Err(finding) => findings.push(finding),
        }
    }
    if objects.is_empty() && findings.is_empty() {
        findings.push(
            Finding::new("manifest", "this manifest has no object")
                .label(Place::Path(KeyPath::root(), Part::Value), "the whole file")
                .help("write Kubernetes objects, or leave the file out of the addon"),
        );
    }
    if findings.is_empty() { Ok(objects) } else { Err(findings) }
}

/// Bytes of the documents. A line that begins with `---` starts one wherever it stands (YAML 1.2, section 9.1.2), so
/// each can be read by itself, and a mistake in one does not hide those of the next.
fn documents(text: &str) -> Vec<Range<usize>> {
    let mut starts = vec![0];
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let marker = line.strip_prefix("---").is_some_and(|rest| rest.starts_with(char::is_whitespace))
            || line == "---";
        if marker && at > 0 {
            starts.push(at);
        }
        at += line.len();
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
}

/// What a document says, as kubectl would send it.
fn value(text: &str, document: &Range<usize>) -> Result<Value, Finding> {
    let part = &text[document.clone()];
    let is_content = |line: &str| !matches!(line.trim(), "" | "---" | "...") && !line.trim().starts_with('#');
    if !part.lines().any(is_content) {
        return Ok(Value::Null);
    }
    let options = serde_saphyr::options! {
        // `defaultMode: 0644` means what it means to kubectl, whose YAML is of version 1.1.
        legacy_octal_numbers: true,
        // But `yes` and `on` are words: where a boolean is wanted the API server says so.
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(part, options).map_err(|error| {
        let error = error.without_snippet();
        let at = error.location().map_or(document.start, |location| {
            let line = usize::try_from(location.line()).unwrap_or(1).saturating_sub(1);
            let column = usize::try_from(location.column()).unwrap_or(1).saturating_sub(1);
            let before: usize = part.split_inclusive('\n').take(line).map(str::len).sum();
            let line = part[before..].lines().next().unwrap_or_default();
            let column = line.char_indices().nth(column).map_or(line.len(), |(byte, _)| byte);
            document.start + before + column
        });
        // The parser's words can quote a value.
        let why = if text.contains(SECRET) { "it cannot be read".to_owned() } else { words(error) };
        Finding::new("manifest", format!("this is no YAML: {why}"))
            .label(Place::Bytes(at..at), "here")
            .help("correct the indentation, quotes or brackets here or just above")
    })
}

/// The parser's words in one line, without its place in the document.
fn words(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.split(" at line ").next().unwrap_or_default().trim().to_owned()
}

/// The first line of a document that says something.
fn place(text: &str, document: &Range<usize>) -> Range<usize> {
    let mut at = document.start;
    for line in text[document.clone()].split_inclusive('\n') {
        let words = line.trim();
        if !matches!(words, "" | "---" | "...") && !words.starts_with('#') {
            return at..at + line.trim_end().len();
        }
        at += line.len();
    }
    document.start..document.start
}

/// An object, or those of a `List`, as `kubectl get -o yaml` writes several.
fn take(mut value: Value, place: &Range<usize>, objects: &mut Vec<Value>, findings: &mut Vec<Finding>) {
    let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    if is_list && let Some(items) = value.get_mut("items").and_then(Value::as_array_mut) {
        for item in std::mem::take(items) {
            take(item, place, objects, findings);
        }
        return;
    }
    let lacking = |path: &str| {
        let found = value.pointer(path);
        found.and_then(Value::as_str).is_none_or(str::is_empty)
    };
    let paths = ["/apiVersion", "/kind", "/metadata/name"];
    let names: Vec<String> = paths
        .into_iter()
        .filter(|path| lacking(path))
        .map(|path| format!("`{}`", path[1..].replace('/', ".")))
        .collect();
    if names.is_empty() {
        name_protocols(&mut value);
        objects.push(value);
    } else {
        findings.push(
            Finding::new("manifest", format!("this object has no {}", names.join(", no ")))
                .label(Place::Bytes(place.clone()), "the object that begins here")
                .help("an object has `apiVersion`, `kind` and `metadata.name`, all of them texts"),
        );
    }
}

/// Writes the protocol into ports that leave it to the default. Before 1.21 an API server refuses to apply an object
/// with one that lacks it, as it tells ports apart by number and protocol before it sets defaults.
///
/// <https://github.com/kubernetes-sigs/structured-merge-diff/issues/183>
fn name_protocols(object: &mut Value) {
    let group = object["apiVersion"].as_str().and_then(|version| version.split_once('/'));
    let paths: &[&str] =
        match (group.map_or("", |(group, _)| group), object["kind"].as_str().unwrap_or_default()) {
            ("", "Service") => return of_ports(object.pointer_mut("/spec")),
            ("", "Pod") => &["/spec"],
            ("" | "apps", _) => &["/spec/template/spec"],
            ("batch", _) => &["/spec/template/spec", "/spec/jobTemplate/spec/template/spec"],
            _ => &[],
        };
    for (path, list) in paths.iter().flat_map(|path| [(path, "containers"), (path, "initContainers")]) {
        let containers = object.pointer_mut(&format!("{path}/{list}")).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            of_ports(Some(container));
        }
    }
}

fn of_ports(owner: Option<&mut Value>) {
    let ports = owner.and_then(|owner| owner.get_mut("ports")).and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
        port.entry("protocol").or_insert_with(|| "TCP".into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_comments_lists_and_octal_modes() {
        let text = "# only a comment\n---\n# another\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  script: |\n    a\n    --- b\n  on: \"1\"\n\
                    ---\n---\nkind: List\napiVersion: v1\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: b}}\n\
                    --- {apiVersion: v1, kind: Pod, metadata: {name: c}, x: {mode: 0644, word: yes, none: ~}}\n...\n";
        let objects = parse(text).unwrap();
        let names: Vec<&Value> = objects.iter().map(|object| &object["metadata"]["name"]).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(objects[0]["data"], json!({ "script": "a\n--- b\n", "on": "1" }));
        assert_eq!(objects[2]["x"], json!({ "mode": 420, "word": "yes", "none": null }));
    }

    #[test]
    fn ports_name_their_protocol() {
        let text = "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 53, protocol: UDP}, {port: 53}]}}\n\
                    ---\n{apiVersion: apps/v1, kind: Deployment, metadata: {name: b}, spec: {template: {spec: {containers: [{ports: [{containerPort: 80}]}, {}]}}}}\n\
                    ---\n{apiVersion: x.example/v1, kind: Service, metadata: {name: c}, spec: {ports: [{port: 1}]}}\n";
        let objects = parse(text).unwrap();
        let protocols = |at: usize, path: &str| -> Vec<Value> {
            let ports = objects[at].pointer(path).and_then(Value::as_array).unwrap();
            ports.iter().map(|port| port["protocol"].clone()).collect()
        };
        assert_eq!(protocols(0, "/spec/ports"), ["UDP", "TCP"]);
        assert_eq!(protocols(1, "/spec/template/spec/containers/0/ports"), ["TCP"]);
        assert_eq!(protocols(2, "/spec/ports"), [Value::Null], "not ours to know");
    }

    #[test]
    fn every_document_is_complained_about_at_its_own_line() {
        let text = "apiVersion: v1\nkind: A\n---\nkind: [x\n---\n\nkind: B\nmetadata: {name: 1}\n---\n- x\n";
        let findings = parse(text).unwrap_err();
        let lines: Vec<usize> = findings
            .iter()
            .map(|finding| match &finding.labels[0].place {
                Place::Bytes(bytes) => text[..bytes.start].matches('\n').count() + 1,
                Place::Path(..) => 0,
            })
            .collect();
        assert_eq!(lines.len(), 4);
        assert_eq!((lines[0], lines[2], lines[3]), (1, 7, 10));
        assert!((4..=5).contains(&lines[1]), "{lines:?}");
        assert_eq!(findings[2].message, "this object has no `apiVersion`, no `metadata.name`");
        assert_eq!(parse("# nothing\n").unwrap_err()[0].message, "this manifest has no object");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text in "(---\n|---|[a-z]{1,4}: ?|\\[|\\{|\\}|- |\"|\n|\t|#|ä|&a|\\*a|!!|\\|){0,40}") {
            if let Err(findings) = parse(&text) {
                for finding in findings {
                    if let Place::Bytes(bytes) = &finding.labels[0].place {
                        proptest::prop_assert!(text.get(bytes.clone()).is_some());
                    }
                }
            }
        }
    }
}
