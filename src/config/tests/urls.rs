use crate::config::{HostPort, RedisUrl, Scheme};

fn url(text: &str) -> RedisUrl {
    RedisUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn nodes(text: &str) -> String {
    url(text).nodes().iter().map(|node| node.to_string()).collect::<Vec<_>>().join(" ")
}

/// `text` is refused with words that hold `valid`.
fn check(text: &str, valid: &str) {
    let error = RedisUrl::parse(text).unwrap_err();
    assert!(error.contains(valid), "{text}: {error}");
}

#[test]
fn every_scheme_is_known() {
    for (text, scheme) in [
        ("redis://h", Scheme::Redis),
        ("REDIS://h", Scheme::Redis),
        ("rediss://h", Scheme::Rediss),
        ("redis+unix:///s", Scheme::Unix),
        ("unix:///s", Scheme::Unix),
        ("redis-sentinel://h/m", Scheme::Sentinel),
        ("redis-cluster://h", Scheme::Cluster),
        ("embedded://", Scheme::Embedded),
    ] {
        assert_eq!(url(text).scheme(), scheme, "{text}");
    }
    check("http://h", "redis-cluster://");
    check("localhost", "redis://localhost:6379/0");
}

#[test]
fn hosts_have_the_port_of_their_kind() {
    assert_eq!(nodes("redis://h"), "h:6379");
    assert_eq!(nodes("redis://h:1/5"), "h:1");
    assert_eq!(nodes("redis://[::1]:7"), "[::1]:7");
    assert_eq!(nodes("redis://[fe80::1]"), "[fe80::1]:6379");
    assert_eq!(nodes("redis-sentinel://a,b:1/m"), "a:26379 b:1");
    assert_eq!(nodes("redis-cluster://a:1,b:2"), "a:1 b:2");
    assert_eq!(nodes("embedded://"), "");
    for port in ["0", "65536", "", "x", "+1"] {
        check(&format!("redis://h:{port}"), "1 to 65535");
    }
    check("redis://::1", "brackets");
    check("redis://[::1", "brackets");
    check("redis://[::1]6379", "colon");
    check("redis://[zz]:1", "IPv6");
    check("redis://", "host name");
    check("redis://:secret@/0", "host name");
    check("redis://a,b", "one host");
    check("redis-cluster://a,,b", "host name");
}

#[test]
fn databases_are_numbers() {
    assert_eq!(url("redis://h").database(), 0);
    assert_eq!(url("redis://h/").database(), 0);
    assert_eq!(url("redis://h/15").database(), 15);
    assert_eq!(url("redis://h?db=4").database(), 4);
    assert_eq!(url("redis-sentinel://h/m/3").database(), 3);
    assert_eq!(url("redis-sentinel://h/3").database(), 3);
    check("redis://h/x", "database number");
    check("redis://h/1/2", "database number");
    check("redis-cluster://h/1", "database 0");
    check("redis-cluster://h?db=1", "database 0");
}

#[test]
fn users_and_passwords_are_decoded() {
    let parsed = url("redis://us%20er:p%40ss%2f@h");
    assert_eq!((parsed.username(), parsed.password()), (Some("us er"), Some("p@ss/")));
    let parsed = url("redis://:p:w@h");
    assert_eq!((parsed.username(), parsed.password()), (None, Some("p:w")));
    let parsed = url("unix:///s?user=u&pass=p");
    assert_eq!((parsed.username(), parsed.password()), (Some("u"), Some("p")));
    check("redis://:%4@h", "%XX");
    check("redis://:%+1@h", "%XX");
    check("redis://:%ff@h", "UTF-8");
    check("redis://:a#b@h", "%23");
    check("redis://:a b@h", "without spaces");
    check("redis://h?timeout=3", "only db, user and pass");
}

#[test]
fn sockets_have_a_path() {
    assert_eq!(url("redis+unix:///run/r%20s").socket().unwrap().to_str(), Some("/run/r s"));
    check("redis+unix://run/redis.sock", "three slashes");
    check("unix:///", "path of a socket");
    check("unix://", "path of a socket");
    check("embedded://h", "nothing after it");
    check("embedded:///x", "nothing after it");
}

#[test]
fn the_service_name_may_be_the_path() {
    assert_eq!(url("redis-sentinel://h/mymaster").service(), Some("mymaster"));
    assert_eq!(url("redis-sentinel://h").service(), None);
    assert_eq!(HostPort::parse("a:1", None).unwrap().to_string(), "a:1");
    assert_eq!(HostPort::parse("a", Some(9)).unwrap().port, 9);
}
