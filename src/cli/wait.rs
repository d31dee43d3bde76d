//! `fosse wait`: blocks until runs end. Reads records and locks; asks no engine and changes nothing.

use crossbeam_channel::select;
use serde_json::json;

use super::args::Wait;
use super::output::{self, Out};
use super::report::{Error, Result, operand};
use super::stop::find;
use crate::run::waiting::Waiter;
use crate::wire::control::End;
use crate::wire::record::{Reason, SCHEMA};

/// The exit code for an end that is not known.
const UNKNOWN: u8 = 125;

pub(crate) fn wait(args: &Wait) -> Result {
    let store = super::store()?;
    // All of them are known before any is waited for: who is destroyed meanwhile has told its end.
    let one = |text: &String| {
        let id = find(&store, text, "waiting for a run")?;
        Ok((Waiter::of(&store, &id)?, id))
    };
    let waiters: Vec<_> = args.run.iter().map(one).collect();
    let (mut out, mut failed, mut last) = (Out::stdout(), 0, 0);
    let unread = output::unread();
    for waiter in waiters {
        let ended = waiter.and_then(|(waiter, id)| {
            select! {
                recv(waiter.over()?) -> _ => waiter.end().map(|end| Some((end, id))),
                recv(unread) -> _ => Ok(None),
            }
        });
        match ended {
            Err(failure) => operand(&failure, &mut failed),
            Ok(None) => return Err(Error::Closed),
            Ok(Some((end, id))) => {
                last = status(&end);
                let code = end.exit_code;
                if args.json {
                    out.json(&json!({"schema": SCHEMA, "id": id, "exit_code": code}))?;
                } else {
                    out.line(&code.map_or_else(|| "null".to_owned(), |code| code.to_string()))?;
                }
                out.finish()?;
            }
        }
    }
    Ok(if failed == 0 { last } else { failed })
}

/// What `wait` makes of it. A run that lost its owner did not end as it should, whatever its command ended with.
fn status(end: &End) -> u8 {
    end.exit_code.filter(|_| end.reason != Some(Reason::Orphaned)).unwrap_or(UNKNOWN)
}
