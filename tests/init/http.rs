//! The protocol of `fosse init`'s API: who may ask, and what is refused and how.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::json;

use crate::support::http::{Address, Answer, Conn, raw};
use crate::support::init::{BOTH, Init, Place, serving};
use crate::support::{Home, code, finish, left_out, stderr};

/// On a socket, as a subreaper.
pub fn on_socket(body: impl Fn(&Init)) {
    serving(&[Place::Subreaper], body);
}

/// An init that listens on TCP as well as given arguments and a token say.
fn on_tcp(listen: &str, token: Option<&str>, body: impl Fn(&Init, u16)) {
    let (home, address) = (Home::new(), Address::free_port());
    let Address::Tcp(port) = address else { unreachable!() };
    let mut command = Place::Subreaper.cmd(&home, &["--listen", &format!("{listen}:{port}")]);
    token.map(|token| command.env("FOSSE_INIT_TOKEN", token));
    let init = Init::new(Place::Subreaper, home, command, Some(address));
    body(&init, port);
    init.end();
}

/// A request to make a file, by which it is seen whether it was obeyed.
fn touch(init: &Init) -> (std::path::PathBuf, Vec<u8>) {
    let file = init.home.workspace().join("obeyed");
    (file.clone(), json!({"command": ["touch", file]}).to_string().into_bytes())
}

/// Fails unless a request is refused and was not obeyed; gives the status.
fn assert_refused(init: &Init, request: &[u8]) -> u16 {
    let answer = init.address().ask(request);
    let what = String::from_utf8_lossy(&request[..request.len().min(300)]);
    assert!((400..500).contains(&answer.status), "{what}: {answer:?}");
    assert!(!answer.message().is_empty());
    assert_eq!(answer.header("access-control-allow-origin"), None, "{what}");
    assert!(!init.home.workspace().join("obeyed").exists(), "{what}: it was refused and obeyed");
    answer.status
}

// ---- who may ask ------------------------------------------------------------------------------

#[test]
fn the_socket_is_its_owners_alone() {
    serving(&BOTH, |init| {
        let Address::Unix(path) = init.address() else { unreachable!() };
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    });
}

#[test]
fn health_is_json_and_needs_nothing() {
    on_socket(|init| {
        let answer = init.address().ask(&init.address().get("/health"));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.json().is_object(), "{answer:?}");
        assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("application/json")), "{answer:?}");
    });
}

#[test]
fn it_serves_on_several_places_at_once() {
    let (home, tcp) = (Home::new(), Address::free_port());
    let socket = home.dir.join("api.sock");
    let args = ["--socket", socket.to_str().unwrap(), "--listen", &tcp.host(), "--", "sh", "-c", "read x; exit 9"];
    let mut command = Place::Subreaper.cmd(&home, &args);
    command.stdin(std::process::Stdio::piped());
    let mut init = Init::new(Place::Subreaper, home, command, Some(Address::Unix(socket)));
    init.assert_well();
    assert_eq!(tcp.ask(&tcp.get("/health")).status, 200);
    drop(init.client_mut().stdin());
    assert_eq!(code(&init.ended()), 9);
    assert!(tcp.connect().is_err(), "somebody still listens");
}

/// Whatever a page in a browser can send: it cannot leave out `Origin`, choose `Host`, or say JSON unasked.
#[test]
fn no_web_page_can_make_it_do_anything() {
    on_tcp("127.0.0.1", None, |init, port| {
        let (file, body) = touch(init);
        let length = format!("Content-Length: {}", body.len());
        let (host, json) = (format!("Host: 127.0.0.1:{port}"), "Content-Type: application/json");
        let line = "POST /process/execute HTTP/1.1";
        let mut pages: Vec<Vec<String>> = Vec::new();
        for origin in ["http://evil.example", "null", &format!("http://127.0.0.1:{port}"), "http://localhost"] {
            pages.push(vec![host.clone(), json.into(), format!("Origin: {origin}")]);
        }
        for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x", ""] {
            pages.push(vec![host.clone(), format!("Content-Type: {kind}")]);
        }
        pages.push(vec![host.clone(), "Content-Type: text/plain; x=application/json".into()]);
        for rebound in
            ["evil.example", &format!("evil.example:{port}"), "localhost.evil.example", "127.0.0.1.evil.example"]
        {
            pages.push(vec![format!("Host: {rebound}"), json.into()]);
        }
        for headers in &pages {
            let mut headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            headers.push(&length);
            assert_refused(init, &raw(line, &headers, &body));
        }
        let preflight = ["Origin: http://evil.example", "Access-Control-Request-Method: POST", &host];
        assert_refused(init, &raw("OPTIONS /process/execute HTTP/1.1", &preflight, b""));
        // No page can ask for health under another name either.
        assert_refused(init, &raw("GET /health HTTP/1.1", &["Host: evil.example"], b""));
        // What an honest client says is none of that.
        for host in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!("LOCALHOST:{port}")] {
            for kind in ["application/json", "application/json; charset=utf-8", "Application/JSON"] {
                let headers = [&format!("host: {host}"), &format!("content-type:{kind}"), &length];
                let answer = init.address().ask(&raw(line, &headers.map(String::as_str), &body));
                assert_eq!(answer.status, 200, "{host} {kind}: {answer:?}");
                assert!(file.exists());
                fs::remove_file(&file).unwrap();
            }
        }
    });
}

#[test]
fn beyond_this_machine_it_listens_with_a_token_only() {
    let home = Home::new();
    let ran = home.dir.join("ran");
    let Address::Tcp(port) = Address::free_port() else { unreachable!() };
    for listen in [format!("0.0.0.0:{port}"), format!("[::]:{port}")] {
        for token in [None, Some("")] {
            let mut command = Place::Subreaper.cmd(&home, &["--listen", &listen, "--", "touch", ran.to_str().unwrap()]);
            token.map(|token| command.env("FOSSE_INIT_TOKEN", token));
            let output = finish(command);
            assert_eq!(code(&output), 125, "{listen} {token:?}: {output:?}");
            let text = stderr(&output);
            assert!(text.starts_with("fosse: ") && text.contains("\nhint: "), "{text}");
            assert!(text.contains("FOSSE_INIT_TOKEN"), "{text}");
            assert!(!ran.exists(), "the command ran");
        }
    }
}

#[test]
fn who_does_not_know_the_token_may_ask_for_health_alone() {
    on_tcp("0.0.0.0", Some("a-secret"), |init, _| {
        let (file, body) = touch(init);
        for wrong in [
            &[][..],
            &["Authorization: Bearer"],
            &["Authorization: Bearer "],
            &["Authorization: Bearer wrong"],
            &["Authorization: Bearer a-secre"],
            &["Authorization: Bearer a-secret2"],
            &["Authorization: Bearer A-SECRET"],
            &["Authorization: Basic a-secret"],
            &["Authorization: a-secret"],
        ] {
            assert_eq!(assert_refused(init, &init.address().post(wrong, &body)), 401, "{wrong:?}");
        }
        // Nothing is told to a stranger about what else he did wrong.
        assert_eq!(assert_refused(init, &init.address().post(&[], b"no JSON")), 401);
        let right = ["Authorization: Bearer a-secret"];
        assert_eq!(init.address().ask(&init.address().post(&right, &body)).status, 200);
        assert!(file.exists());
        init.assert_healthy();
    });
}

/// The token is for clients: what init starts does not get it.
#[test]
fn no_command_is_told_the_token() {
    let home = Home::new();
    let socket = home.dir.join("api.sock");
    let script = "echo \"main:$FOSSE_INIT_TOKEN\"; while ! [ -e end ]; do sleep 0.05; done";
    let mut command = Place::Subreaper.cmd(&home, &["--socket", socket.to_str().unwrap(), "--", "sh", "-c", script]);
    command.env("FOSSE_INIT_TOKEN", "a-secret");
    let init = Init::new(Place::Subreaper, home, command, Some(Address::Unix(socket)));
    // Whoever can open the socket file may ask.
    assert_eq!(init.sh("echo \"executed:$FOSSE_INIT_TOKEN\""), (0, "executed:\n".into()));
    init.home.write("ws/end", "");
    let output = init.ended();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "main:\n");
}

// ---- what is refused --------------------------------------------------------------------------

#[test]
fn a_wrong_body_is_400_and_the_message_names_the_field() {
    on_socket(|init| {
        let post = |body: &str| init.address().ask(&init.address().post(&[], body.as_bytes()));
        for body in ["", "{", "nonsense", "{\"command\": \"true\"", "{\"command\": \"true\"} x", "{'command': 'true'}"]
        {
            let answer = post(body);
            assert_eq!(answer.status, 400, "{body}: {answer:?}");
            answer.message();
        }
        for body in ["[]", "null", "5", "\"true\""] {
            assert_eq!(post(body).status, 400, "{body}");
        }
        let bytes = init.address().ask(&init.address().post(&[], b"{\"command\": \"\xff\"}"));
        assert_eq!(bytes.status, 400, "{bytes:?}");
        for (field, body) in [
            ("command", json!({})),
            ("command", json!({"command": null})),
            ("command", json!({"command": 5})),
            ("command", json!({"command": {}})),
            ("command", json!({"command": true})),
            ("command", json!({"command": []})),
            ("command", json!({"command": ["true", 5]})),
            ("command", json!({"command": [["true"]]})),
            ("command", json!({"command": ""})),
            ("command", json!({"command": " \t"})),
            ("command", json!({"command": ["true", "a\0b"]})),
            ("cwd", json!({"command": "true", "cwd": 5})),
            ("cwd", json!({"command": "true", "cwd": "/tmp\0"})),
            ("env", json!({"command": "true", "env": "A=b"})),
            ("env", json!({"command": "true", "env": ["A=b"]})),
            ("env", json!({"command": "true", "env": {"A": 5}})),
            ("env", json!({"command": "true", "env": {"A=B": "c"}})),
            ("env", json!({"command": "true", "env": {"": "c"}})),
            ("env", json!({"command": "true", "env": {"A": "\0"}})),
            ("timeout", json!({"command": "true", "timeout": "5"})),
            ("timeout", json!({"command": "true", "timeout": -1})),
            ("timeout", json!({"command": "true", "timeout": [5]})),
            ("split", json!({"command": "true", "split": "yes"})),
            ("split", json!({"command": "true", "split": 1})),
        ] {
            let answer = post(&body.to_string());
            assert_eq!(answer.status, 400, "{body}: {answer:?}");
            assert!(answer.message().contains(field), "{body}: {answer:?}");
        }
        init.assert_well();
    });
}

#[test]
fn unknown_paths_are_404_and_wrong_methods_405() {
    on_socket(|init| {
        let host = "Host: localhost";
        for path in ["/", "/process", "/process/execute/", "/process/executeX", "/healthz", "/HEALTH"] {
            for method in ["GET", "POST"] {
                let request = raw(
                    &format!("{method} {path} HTTP/1.1"),
                    &[host, "Content-Type: application/json", "Content-Length: 0"],
                    b"",
                );
                assert_eq!(assert_refused(init, &request), 404, "{method} {path}");
            }
        }
        for (method, path) in [
            ("GET", "/process/execute"),
            ("PUT", "/process/execute"),
            ("DELETE", "/process/execute"),
            ("POST", "/health"),
        ] {
            let headers = [host, "Content-Type: application/json", "Content-Length: 2"];
            assert_eq!(assert_refused(init, &raw(&format!("{method} {path} HTTP/1.1"), &headers, b"{}")), 405);
        }
    });
}

/// Sends what has no end, from a thread, and gives the answer that comes before the end.
fn answer_to_endless(conn: &mut Conn, start: &[u8], piece: &[u8]) -> Answer {
    conn.send(start).unwrap();
    let mut writer = conn.other_handle();
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || {
            for _ in 0..(1 << 30) / piece.len() {
                if writer.write_all(piece).is_err() {
                    return;
                }
            }
            panic!("it took a gigabyte");
        });
        let answer = conn.answer();
        Conn::hang_up(&conn.other_handle());
        writing.join().unwrap();
        answer.unwrap()
    })
}

#[test]
fn too_much_of_anything_is_refused_before_it_is_read() {
    on_socket(|init| {
        let announced = init.address().post(&[], b"");
        let announced = String::from_utf8(announced).unwrap();
        for length in ["1000000000", "9999999999999", "18446744073709551616"] {
            let request = announced.replace("Content-Length: 0", &format!("Content-Length: {length}"));
            let answer = init.address().ask(request.as_bytes());
            // The last is no number that anything could have.
            assert!(answer.status == 413 || (length.len() > 19 && answer.status == 400), "{length}: {answer:?}");
            answer.message();
        }
        let chunked = announced.replace("Content-Length: 0", "Transfer-Encoding: chunked");
        let chunk = [b"10000\r\n", &vec![b' '; 65536][..], b"\r\n"].concat();
        assert_eq!(answer_to_endless(&mut init.connect(), chunked.as_bytes(), &chunk).status, 413);
        let head = b"GET /health HTTP/1.1\r\nHost: localhost\r\n";
        assert_eq!(answer_to_endless(&mut init.connect(), head, b"X: yyyyyyyyyyyyyyyyyyy\r\n").status, 431);
        let long = [&head[..], b"X: "].concat();
        assert_eq!(answer_to_endless(&mut init.connect(), &long, &[b'y'; 4096]).status, 431);
        let status = answer_to_endless(&mut init.connect(), b"GET /", &[b'y'; 4096]).status;
        assert!([414, 431].contains(&status), "{status}");
        init.assert_well();
    });
}

#[test]
fn what_is_no_http_is_refused_and_harms_nobody() {
    on_socket(|init| {
        let length = "Content-Length: 2";
        let kind = "Content-Type: application/json";
        let host = "Host: localhost";
        let post = "POST /process/execute HTTP/1.1";
        for request in [
            b"\x16\x03\x01\x02\x00\x01\r\n\r\n".to_vec(),
            b"\0\0\0\0\r\n\r\n".to_vec(),
            b"GET\r\n\r\n".to_vec(),
            b"GET /health\r\n\r\n".to_vec(),
            b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n".to_vec(),
            b"GET /health HTTP/1.1\r\nHost localhost\r\n\r\n".to_vec(),
            raw("GET /health HTTP/1.1", &[], b""),
            raw("GET /health HTTP/1.1", &[host, "Host: other"], b""),
            raw(post, &[host, kind, length, "Content-Length: 3"], b"{}"),
            raw(post, &[host, kind, length, "Transfer-Encoding: chunked"], b"0\r\n\r\n"),
            raw(post, &[host, kind, "Content-Length: -2"], b"{}"),
            raw(post, &[host, kind, "Content-Length: +2"], b"{}"),
            raw(post, &[host, kind, "Content-Length: x"], b"{}"),
            raw(post, &[host, kind, "Transfer-Encoding: chunked"], b"zz\r\n{}\r\n0\r\n\r\n"),
        ] {
            let answer = init.address().ask(&request);
            let refused = (400..500).contains(&answer.status) || [501, 505].contains(&answer.status);
            assert!(refused, "{}: {answer:?}", String::from_utf8_lossy(&request));
            init.assert_healthy();
        }
        init.assert_well();
    });
}

// ---- ways to say it ---------------------------------------------------------------------------

#[test]
fn a_body_may_come_in_chunks_and_a_request_byte_by_byte() {
    on_socket(|init| {
        let head = raw(
            "POST /process/execute HTTP/1.1",
            &["Host: localhost", "Content-Type: application/json", "Transfer-Encoding: chunked"],
            b"",
        );
        let body = b"c\r\n{\"command\": \r\n5;x=y\r\n\"echo\r\n004\r\n x\"}\r\n0\r\nTrailer: x\r\n\r\n";
        let request = [&head[..], body].concat();
        assert_eq!(init.address().ask(&request).json()["result"], "x\n");
        let whole = init.address().post(&[], json!({"command": "echo y"}).to_string().as_bytes());
        for request in [request, whole] {
            let mut conn = init.connect();
            for byte in request {
                conn.send(&[byte]).unwrap();
            }
            assert_eq!(conn.answer().unwrap().json()["exitCode"], 0);
        }
    });
}

#[test]
fn requests_on_one_connection_are_answered_in_their_order() {
    on_socket(|init| {
        let mut conn = init.connect();
        let execute =
            |script: &str| init.address().post(&[], json!({"command": ["sh", "-c", script]}).to_string().as_bytes());
        let health = init.address().get("/health");
        let all = [execute("sleep 0.3; echo 1"), health.clone(), execute("echo 2"), execute("exit 3"), health].concat();
        conn.send(&all).unwrap();
        assert_eq!(conn.answer().unwrap().json()["result"], "1\n");
        assert!(conn.answer().unwrap().json().get("exitCode").is_none());
        assert_eq!(conn.answer().unwrap().json()["result"], "2\n");
        assert_eq!(conn.answer().unwrap().json()["exitCode"], 3);
        assert_eq!(conn.answer().unwrap().status, 200);
        // And an answer to a request that was wrong does not end the connection's others in confusion.
        conn.send(&init.address().get("/nowhere")).unwrap();
        assert_eq!(conn.answer().unwrap().status, 404);
        if !conn_is_closed_by(&mut conn, init) {
            assert_eq!(conn.answer().unwrap().status, 200);
        }
    });
}

/// Asks once more; whether the server had closed the connection, which it may after an error.
fn conn_is_closed_by(conn: &mut Conn, init: &Init) -> bool {
    conn.send(&init.address().get("/health")).is_err() || conn.is_over()
}

#[test]
fn http_1_0_head_and_close_are_understood() {
    on_socket(|init| {
        let mut conn = init.connect();
        conn.send(b"GET /health HTTP/1.0\r\n\r\n").unwrap();
        assert_eq!(conn.answer().unwrap().status, 200);
        assert!(conn.is_over(), "HTTP/1.0 has no second request");
        let mut conn = init.connect();
        conn.send(&raw("GET /health HTTP/1.1", &["Host: localhost", "Connection: close"], b"")).unwrap();
        assert_eq!(conn.answer().unwrap().status, 200);
        assert!(conn.is_over(), "it was asked to close");
        // An answer to HEAD with a body would be taken for the next answer.
        let mut conn = init.connect();
        conn.send(&raw("HEAD /health HTTP/1.1", &["Host: localhost"], b"")).unwrap();
        assert_eq!(conn.head().unwrap().status, 200);
        conn.send(&init.address().get("/health")).unwrap();
        assert_eq!(conn.answer().unwrap().status, 200);
    });
}

#[test]
fn who_asks_whether_to_go_on_is_told() {
    on_socket(|init| {
        let body = json!({"command": "echo x"}).to_string();
        let request = init.address().post(&["Expect: 100-continue"], body.as_bytes());
        let (head, body) = request.split_at(request.len() - body.len());
        let mut conn = init.connect();
        conn.send(head).unwrap();
        assert_eq!(conn.head().unwrap().status, 100);
        conn.send(body).unwrap();
        assert_eq!(conn.answer().unwrap().json()["result"], "x\n");
        // Who will be refused is not told to go on.
        let request = String::from_utf8(head.to_vec()).unwrap().replace("Content-Length: ", "Content-Length: 99999999");
        assert_eq!(init.address().ask(request.as_bytes()).status, 413);
    });
}

#[test]
fn curl_can_speak_with_it() {
    if Command::new("curl").arg("--version").output().is_err() {
        return left_out("curl is not installed");
    }
    serving(&BOTH, |init| {
        let Address::Unix(path) = init.address() else { unreachable!() };
        let curl = |args: &[&str], path_of_url: &str| {
            let mut command = Command::new("curl");
            command.args(["--silent", "--show-error", "--max-time", "60", "--unix-socket", path.to_str().unwrap()]);
            let output = finish({
                command.args(args).arg(format!("http://localhost{path_of_url}"));
                command
            });
            assert_eq!(code(&output), 0, "{args:?}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let json = "Content-Type: application/json";
        for version in ["--http1.1", "--http1.0"] {
            let said =
                curl(&[version, "-H", json, "-d", r#"{"command": "sh -c 'echo hi; exit 7'"}"#], "/process/execute");
            let said: serde_json::Value = serde_json::from_str(&said).unwrap();
            assert_eq!((&said["exitCode"], &said["result"]), (&json!(7), &json!("hi\n")), "{version}");
        }
        let status = ["--output", "/dev/null", "--write-out", "%{http_code}"];
        assert_eq!(curl(&status, "/health"), "200");
        assert_eq!(curl(&[&["--head"], &status[..]].concat(), "/health"), "200");
        // Its own default for -d is a form's content type.
        assert!(curl(&[&["-d", r#"{"command": "true"}"#], &status[..]].concat(), "/process/execute").starts_with('4'));
        // Many arguments: curl asks first whether to go on, and sends it as chunks.
        let big = init.home.write("big.json", json!({"command": ["true", "x".repeat(100_000)]}).to_string());
        let data = format!("@{}", big.display());
        let args =
            ["-H", json, "-H", "Expect: 100-continue", "-H", "Transfer-Encoding: chunked", "--data-binary", &data];
        assert!(curl(&args, "/process/execute").contains("\"exitCode\""));
    });
}
