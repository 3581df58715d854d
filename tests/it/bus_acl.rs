//! Each user of the bus can do its own and nothing else: the rows of `deploy/redis/users.acl.template`, tried out.

use cdb_tests::cell::Cell;

/// Command, then who may: operator, strategy, cdb_risk, cdb_execution, cdb_monitor.
const MATRIX: &[(&[&str], [bool; 5])] = &[
    (&["XADD", "cdb:orders", "*", "json", "x"], [true, true, false, false, false]),
    (&["XADD", "cdb:verdicts", "*", "json", "x"], [false, false, true, false, false]),
    (&["XADD", "cdb:executions", "*", "json", "x"], [false, false, false, true, false]),
    (&["XADD", "cdb:events", "*", "json", "x"], [true, false, true, true, true]),
    (&["XADD", "cdb:dead", "*", "json", "x"], [false, false, true, true, false]),
    (&["XREADGROUP", "GROUP", "cdb_risk", "1", "STREAMS", "cdb:orders", ">"], [false, false, true, false, false]),
    (
        &["XREADGROUP", "GROUP", "cdb_execution", "1", "STREAMS", "cdb:verdicts", ">"],
        [false, false, false, true, false],
    ),
    (&["XACK", "cdb:verdicts", "cdb_execution", "1-1"], [false, false, false, true, false]),
    (&["XRANGE", "cdb:verdicts", "-", "+"], [true; 5]),
    (&["XRANGE", "cdb:executions", "-", "+"], [true, true, true, true, true]),
    // Risk sets a vanished stop again, the console of the monitor sets one; only operators end one.
    (&["SET", "emergency_stop", "x"], [true, false, true, false, true]),
    (&["SET", "emergency_stop:symbol:BTCUSDT", "x"], [true, false, true, false, true]),
    (&["DEL", "emergency_stop:symbol:BTCUSDT"], [true, false, false, false, false]),
    (&["EXPIRE", "emergency_stop", "1"], [false; 5]),
    (&["SET", "cdb:breaker:command", "x"], [true, false, false, false, false]),
    (&["SET", "cdb:usage", "x"], [false, false, true, false, false]),
    (&["GET", "cdb:usage"], [true, false, true, false, true]),
    (&["DEL", "emergency_stop"], [true, false, false, false, false]),
    (&["EXISTS", "emergency_stop"], [true, false, true, true, true]),
    (&["SET", "cdb:permit", "x"], [false, false, true, false, false]),
    (&["HSET", "cdb:breaker", "state", "closed"], [false, false, true, false, false]),
    (&["SET", "cdb:claim:x", "x"], [false, false, false, true, false]),
    (&["DEL", "cdb:claim:x"], [false, false, false, true, false]),
    (&["SET", "cdb:lease:risk", "x"], [false, false, true, false, false]),
    (&["SET", "cdb:lease:execution", "x"], [false, false, false, true, false]),
    (&["SET", "cdb:resumed", "x"], [true, false, false, false, false]),
    (&["HSET", "cdb:price", "BTCUSDT", "x"], [false, false, false, true, false]),
    (&["HSET", "cdb:conditions:cdb_execution", "exchange_ban", "x"], [false, false, false, true, false]),
    (&["HSET", "cdb:conditions:cdb_monitor", "ledger_away", "x"], [false, false, false, false, true]),
    (&["SET", "cdb:reconcile:command", "x"], [true, false, false, false, false]),
    (&["SET", "cdb:ledger:command", "x"], [true, false, false, false, false]),
    (&["SET", "cdb:anchor:command", "x"], [true, false, false, false, false]),
    (&["SET", "cdb:reconcile", "x"], [false, false, false, true, false]),
    (&["XTRIM", "cdb:orders", "MAXLEN", "0"], [false; 5]),
    (&["XDEL", "cdb:verdicts", "1-1"], [false; 5]),
    (&["FLUSHALL"], [false; 5]),
    (&["CONFIG", "GET", "dir"], [false; 5]),
    (&["EVAL", "return 1", "0"], [false; 5]),
    (&["KEYS", "*"], [false; 5]),
    (&["SHUTDOWN"], [false; 5]),
    (&["ACL", "SETUSER", "x"], [false; 5]),
];
const USERS: [&str; 5] = ["operator", "strategy", "cdb_risk", "cdb_execution", "cdb_monitor"];

#[tokio::test]
async fn each_user_can_do_its_own_and_nothing_else() {
    let cell = Cell::start().await;
    for (user, column) in USERS.iter().zip(0..) {
        let bus = cell.as_user(user).await;
        for (command, allowed) in MATRIX {
            if allowed[column] {
                continue;
            }
            let mut forbidden = redis::cmd(command[0]);
            forbidden.arg(&command[1..]);
            let answer: redis::RedisResult<redis::Value> = forbidden.query_async(&mut bus.commands()).await;
            let error = answer.expect_err(&format!("{user} may {command:?}"));
            assert_eq!(error.code(), Some("NOPERM"), "{user} {command:?}: {error}");
        }
    }
    // What is allowed is shown by a cell that trades; the harmless part of it is tried here.
    for (user, column) in USERS.iter().zip(0..) {
        let bus = cell.as_user(user).await;
        for (command, allowed) in MATRIX {
            let is_harmless = ["XRANGE", "EXISTS"].contains(&command[0]);
            if allowed[column] && is_harmless {
                let mut allowed_command = redis::cmd(command[0]);
                allowed_command.arg(&command[1..]);
                let answer: redis::RedisResult<redis::Value> = allowed_command.query_async(&mut bus.commands()).await;
                assert!(answer.is_ok(), "{user} {command:?}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn nobody_gets_in_without_a_user() {
    let cell = Cell::start().await;
    let port = u16::try_from(cell.description()["redis"]["port"].as_u64().unwrap()).unwrap();
    let client = redis::Client::open(("127.0.0.1", port)).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let answer: redis::RedisResult<redis::Value> =
        redis::cmd("XADD").arg(&["cdb:orders", "*", "json", "x"]).query_async(&mut connection).await;
    assert_eq!(answer.unwrap_err().code(), Some("NOAUTH"));
}
