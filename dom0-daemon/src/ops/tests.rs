use bulkhead_model::qube::{Description, PolicyText};

use super::{expectations_hold, utc};

#[tokio::test]
async fn a_kept_generation_that_decides_otherwise_than_expected_is_not_gone_back_to() {
    let text = |origin: &str, text: &str| PolicyText {
        origin: origin.to_owned(),
        first_line: 1,
        text: text.to_owned(),
    };
    let mut kept = Description {
        policy: vec![text("a.policy", "a.B * @anyvm dom0 deny")],
        policy_tests: vec![text("a.expect", "dom0 -> dom0 a.B is deny")],
        ..Description::default()
    };
    assert!(expectations_hold(3, kept.clone()).await.is_ok());
    kept.policy_tests = vec![text("a.expect", "# calls\ndom0 -> @adminvm a.B is ask")];
    let error = expectations_hold(3, kept).await.unwrap_err();
    let said = "the policy of generation 3 does not meet 1 expectation";
    assert_eq!(error.to_string(), said);
    let super::OperationsError::Expectations { diagnostics, .. } = error else {
        panic!("{error}");
    };
    let place = diagnostics.list[0].place.as_ref().unwrap();
    assert_eq!(place.to_string(), "a.expect:2:1");
}

#[test]
fn seconds_are_told_as_a_date() {
    for (seconds, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_399, "2000-02-28T23:59:59Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (1_709_251_199, "2024-02-29T23:59:59Z"),
        (1_709_251_200, "2024-03-01T00:00:00Z"),
        (4_102_444_800, "2100-01-01T00:00:00Z"),
    ] {
        assert_eq!(utc(seconds), text);
    }
}
