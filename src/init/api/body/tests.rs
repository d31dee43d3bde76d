//! Bodies that are right, and each way in which they are not.

use std::path::Path;

use proptest::prelude::*;

use super::*;

fn wrong(body: &str) -> String {
    let response = parse_execute(body.as_bytes()).expect_err(body);
    assert_eq!(response.status, 400, "{body}");
    let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    body["error"]["message"].as_str().unwrap().to_owned()
}

fn right(body: &str) -> Execute {
    parse_execute(body.as_bytes()).unwrap_or_else(|_| panic!("{body}: {}", wrong(body)))
}

#[test]
fn a_command_alone_is_enough() {
    let execute = right(r#"{"command":"ls -al"}"#);
    assert_eq!(execute.argv, ["ls", "-al"]);
    assert_eq!((execute.cwd, execute.env, execute.split), (None, vec![], false));
    assert_eq!(execute.timeout, Duration::from_secs(360));
}

#[test]
fn every_field_arrives() {
    let execute = right(
        r#" {"split": true, "timeout": 1.5, "env": {"B": "", "A": "x=\u00e9"}, "cwd": "a b", "command": ["a b", "", "\n"]} "#,
    );
    assert_eq!(execute.argv, ["a b", "", "\n"]);
    assert_eq!(execute.cwd.as_deref(), Some(Path::new("a b")));
    assert_eq!(execute.env, [("A".into(), "x=é".into()), ("B".into(), "".into())]);
    assert_eq!((execute.timeout, execute.split), (Duration::from_millis(1500), true));
}

#[test]
fn a_time_out_is_any_number_of_seconds_up_to_a_year() {
    let timeout = |number: &str| right(&format!(r#"{{"command":"x","timeout":{number}}}"#)).timeout;
    assert_eq!(timeout("1"), Duration::from_secs(1));
    assert_eq!(timeout("0.25"), Duration::from_millis(250));
    assert_eq!(timeout("1e2"), Duration::from_secs(100));
    assert_eq!(timeout("31536000"), Duration::from_secs(31_536_000));
    assert_eq!(timeout("1e-300"), Duration::from_millis(1));
}

#[test]
fn each_wrong_field_is_named_with_what_was_expected_and_got() {
    for (fields, message) in [
        (r#""timeout":"5""#, "timeout: expected a number of seconds above 0, got a string"),
        (r#""timeout":-1"#, "timeout: expected a number of seconds above 0, got -1"),
        (r#""timeout":0"#, "timeout: expected a number of seconds above 0, got 0"),
        (r#""timeout":-0.0"#, "timeout: expected a number of seconds above 0, got -0"),
        (r#""timeout":null"#, "timeout: expected a number of seconds above 0, got null"),
        (r#""timeout":true"#, "timeout: expected a number of seconds above 0, got true"),
        (r#""timeout":[1]"#, "timeout: expected a number of seconds above 0, got an array"),
        (r#""timeout":{}"#, "timeout: expected a number of seconds above 0, got an object"),
        (r#""timeout":31536000.5"#, "timeout: expected at most 31536000 seconds, got 31536000.5"),
        (r#""timeout":18446744073709551615"#, "timeout: expected at most 31536000 seconds, got 18446744073709552000"),
        (r#""cwd":"""#, "cwd: expected a path, as a string that is not empty, got an empty string"),
        (r#""cwd":null"#, "cwd: expected a path, as a string that is not empty, got null"),
        (r#""cwd":1"#, "cwd: expected a path, as a string that is not empty, got a number"),
        (r#""cwd":["/"]"#, "cwd: expected a path, as a string that is not empty, got an array"),
        (r#""cwd":"a\u0000b""#, "cwd: expected a path, as a string that is not empty, got a string with a NUL byte"),
        (r#""split":"true""#, "split: expected true or false, got a string"),
        (r#""split":1"#, "split: expected true or false, got a number"),
        (r#""env":"A=b""#, "env: expected an object of strings, got a string"),
        (r#""env":["A=b"]"#, "env: expected an object of strings, got an array"),
        (r#""env":null"#, "env: expected an object of strings, got null"),
        (r#""env":{"A":1}"#, "env.A: expected a string, got a number"),
        (r#""env":{"A":null}"#, "env.A: expected a string, got null"),
        (r#""env":{"A":{}}"#, "env.A: expected a string, got an object"),
        (r#""env":{"A":["b"]}"#, "env.A: expected a string, got an array"),
        (r#""env":{"A":"\u0000"}"#, "env.A: expected a string, got a string with a NUL byte"),
        (r#""env":{"":"a"}"#, "env.: the name of a variable is not empty and has no = and no NUL byte"),
        (r#""env":{"A=B":"a"}"#, "env.A=B: the name of a variable is not empty and has no = and no NUL byte"),
        (r#""env":{"A\u0000":"a"}"#, r"env.A\0: the name of a variable is not empty and has no = and no NUL byte"),
        (r#""env":{"A":"b","A":"b"}"#, "env.A: given twice"),
        (r#""split":true,"split":true"#, "split: given twice"),
        (r#""cwd":"/","cwd":"/""#, "cwd: given twice"),
        (r#""command":"y""#, "command: given twice"),
        (r#""stdin":[[["#, "stdin: not a known field"),
        (r#""Timeout":1"#, "Timeout: not a known field"),
        (r#""a\nb":1"#, r"a\nb: not a known field"),
        (r#""":1"#, ": not a known field"),
    ] {
        assert_eq!(wrong(&format!(r#"{{"command":"x",{fields}}}"#)), message);
    }
    let long = wrong(&format!(r#"{{"{}":1}}"#, "k".repeat(1 << 20)));
    assert_eq!(long, format!("{}…: not a known field", "k".repeat(64)));
}

#[test]
fn each_wrong_command_is_described() {
    let expected = "command: expected a string or an array of strings, the program first, got";
    for (command, got) in [
        ("null", "null"),
        ("1", "a number"),
        ("false", "false"),
        ("{}", "an object"),
        ("[]", "no word at all"),
        (r#""""#, "no word at all"),
        (r#"" \t\n""#, "no word at all"),
        (r#"["","a"]"#, "a program without a name"),
        (r#""'' a""#, "a program without a name"),
        (r#""a 'b""#, "a single quote that is not closed"),
        (r#""a \"b""#, "a double quote that is not closed"),
        (r#""a \\""#, "a backslash at the end"),
        (r#""a\u0000b""#, "a string with a NUL byte"),
    ] {
        assert_eq!(wrong(&format!(r#"{{"command":{command}}}"#)), format!("{expected} {got}"));
    }
    for (command, got) in [
        (r#"["a",1]"#, "a number"),
        (r#"["a",null]"#, "null"),
        (r#"["a",["b"]]"#, "an array"),
        (r#"["a","\u0000"]"#, "a string with a NUL byte"),
    ] {
        assert_eq!(
            wrong(&format!(r#"{{"command":{command}}}"#)),
            format!("command[1]: expected a string, got {got}"),
            "{command}"
        );
    }
    assert_eq!(wrong("{}"), format!("{expected} nothing"));
}

#[test]
fn what_is_no_object_is_described() {
    for (body, got) in [
        ("", "nothing"),
        (" \r\n\t", "nothing"),
        ("null", "null"),
        ("true", "a truth value"),
        ("1", "a number"),
        ("-1", "a number"),
        ("1.5", "a number"),
        (r#""{}""#, "a string"),
        (r#"[{"command":"x"}]"#, "an array"),
        ("[]", "an array"),
    ] {
        assert_eq!(wrong(body), format!("body: expected a JSON object, got {got}"), "{body}");
    }
}

#[test]
fn what_is_no_json_is_refused_as_such() {
    for body in [
        "{",
        r#"{"command""#,
        r#"{"command":"x""#,
        r#"{"command":"x",}"#,
        r#"{"command":"x"} x"#,
        r#"{"command":"x"}{}"#,
        r#"{'command':'x'}"#,
        r#"{"command":"x","timeout":NaN}"#,
        r#"{"command":"x","timeout":Infinity}"#,
        r#"{"command":"x","timeout":1e999}"#,
        r#"{"command":"\ud800"}"#,
        "{\"command\":\"a\nb\"}",
        "\u{feff}{\"command\":\"x\"}",
        "command=x",
    ] {
        let message = wrong(body);
        assert!(message.starts_with("body: not valid JSON: "), "{body}: {message}");
    }
    let response = parse_execute(b"{\"command\":\"\xff\"}").unwrap_err();
    assert!(String::from_utf8(response.body).unwrap().contains("not valid JSON"));
}

#[test]
fn no_depth_of_nesting_overflows() {
    for text in ["[", "{\"command\":", "{\"env\":", "{\"command\":[", "{\"x\":["] {
        wrong(&text.repeat(1 << 17));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_understood_or_refused(bytes: Vec<u8>) {
        let _execute = parse_execute(&bytes);
    }

    #[test]
    fn strings_arrive_as_they_are(
        argv in prop::collection::vec("[^\0]+", 1..4),
        env in prop::collection::btree_map("[^\0=]+", "[^\0]*", 0..4),
    ) {
        let body = serde_json::json!({"command": argv, "env": env}).to_string();
        let execute = right(&body);
        prop_assert_eq!(execute.argv, argv.into_iter().map(OsString::from).collect::<Vec<_>>());
        let expected: Vec<_> = env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        prop_assert_eq!(execute.env, expected);
    }
}
