//! Clients of `fosse init`'s API that are slow, silent or many: none of them can hold up another.

use std::fs;
use std::io::Write;

use serde_json::json;

use crate::init::http::on_socket;
use crate::support::http::Conn;
use crate::support::{left_out, wait_until};

#[test]
fn clients_that_send_a_byte_and_stay_hold_up_nobody() {
    on_socket(|init| {
        let execute = init.address().post(&[], json!({"command": "true"}).to_string().as_bytes());
        let mut slow = Vec::new();
        for number in 0..300 {
            let mut conn = init.connect();
            // One byte, a head without its end, or a body without its end.
            conn.send(&execute[..[1, 20, execute.len() - 1][number % 3]]).unwrap();
            slow.push(conn);
            if number % 100 == 99 {
                init.assert_well();
            }
        }
        init.assert_well();
        drop(slow);
        init.assert_well();
    });
}

/// However slowly he goes on sending, he has ten seconds for all of it.
#[test]
fn who_does_not_finish_his_request_is_told_so_and_let_go() {
    on_socket(|init| {
        let execute = init.address().post(&[], json!({"command": "touch up"}).to_string().as_bytes());
        let mut conn = init.connect();
        let mut writer = conn.other_handle();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // It would take five minutes.
                for byte in &execute[..execute.len() - 1] {
                    if writer.write_all(&[*byte]).is_err() {
                        return;
                    }
                    std::thread::sleep(std::time::Duration::from_secs(2));
                }
            });
            let answer = conn.answer().unwrap();
            assert_eq!(answer.status, 408, "{answer:?}");
            answer.message();
            assert!(conn.is_over());
            Conn::hang_up(&conn.other_handle());
        });
        assert!(!init.home.workspace().join("up").exists());
        init.assert_well();
    });
}

/// Who sends on without reading any answer is not read on without end, and costs nothing while he waits.
#[test]
fn who_sends_on_and_on_while_his_command_runs_is_not_read_and_costs_nothing() {
    on_socket(|init| {
        let mut conn = init.connect();
        let wait = json!({"command": ["sh", "-c", "touch up; while ! [ -e go ]; do sleep 0.01; done; echo went"]});
        conn.send(&init.address().post(&[], wait.to_string().as_bytes())).unwrap();
        let health = init.address().get("/health");
        let mut writer = conn.other_handle();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // As much as is taken; the rest goes when somebody reads.
                for _ in 0..20_000 {
                    writer.write_all(&health).unwrap();
                }
            });
            wait_until("the command runs", || init.home.workspace().join("up").exists());
            let ticks = || {
                let stat = fs::read_to_string(format!("/proc/{}/stat", init.pid)).unwrap();
                let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
                fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
            };
            let before = ticks();
            std::thread::sleep(std::time::Duration::from_secs(2));
            // Of two hundred, if it were busy.
            assert!(ticks() - before < 50, "{} ticks", ticks() - before);
            init.home.write("ws/go", "");
            assert_eq!(conn.answer().unwrap().json()["result"], "went\n");
            for _ in 0..20_000 {
                assert_eq!(conn.answer().unwrap().status, 200);
            }
        });
        init.assert_well();
    });
}

#[test]
fn six_hundred_idle_clients_hold_up_nobody() {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap_or_default();
    if files.split_whitespace().next().and_then(|soft| soft.parse::<u32>().ok()).is_none_or(|soft| soft < 1024) {
        return left_out("six hundred connections need more descriptors");
    }
    on_socket(|init| {
        let idle: Vec<Conn> = (0..600).map(|_| init.connect()).collect();
        init.assert_well();
        // Those who have asked already are as idle as the others.
        let mut asked: Vec<Conn> = (0..50).map(|_| init.connect()).collect();
        for conn in &mut asked {
            conn.send(&init.address().get("/health")).unwrap();
            assert_eq!(conn.answer().unwrap().status, 200);
        }
        init.assert_well();
        drop((idle, asked));
        init.assert_well();
    });
}
