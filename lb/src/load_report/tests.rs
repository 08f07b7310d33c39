//! Reports in all forms, valid and not. Values that other software sends are named in their tests.

use super::{BadMetric, LIMIT, LoadReport, METRICS_MAX, Malformed, Metrics, of_binary, of_fields, of_value};

/// A message as grpc-go sends it: `cpu_utilization` 0.5, `rps_fractional` 100, `eps` 2, `named_metrics.rif` 4.
const GRPC_GO: &str = "CQAAAAAAAOA/MQAAAAAAAFlAOQAAAAAAAABAQg4KA3JpZhEAAAAAAAAQQA";

fn metrics(names: &[&str]) -> Metrics {
    Metrics::new(names).unwrap()
}

fn named(values: &[f64]) -> [f64; METRICS_MAX] {
    std::array::from_fn(|place| values.get(place).copied().unwrap_or_default())
}

#[track_caller]
fn read(value: &str, names: &[&str]) -> LoadReport {
    of_value(value.as_bytes(), &metrics(names)).unwrap_or_else(|malformed| panic!("{value}: {malformed}"))
}

#[track_caller]
fn refuses(value: &str, names: &[&str], expected: Malformed) {
    assert_eq!(of_value(value.as_bytes(), &metrics(names)), Err(expected), "{value}");
}

#[test]
fn every_form_of_one_report_has_the_same_values() {
    let expected = LoadReport { utilization: 0.8, qps: 1000.0, eps: 2.0, named: named(&[123.0, 0.9, 0.5, 7.5]) };
    let names = ["foo", "mem_utilization", "utilization.total", "request_cost.tokens"];
    for value in [
        "TEXT cpu_utilization=0.7,application_utilization=0.8,mem_utilization=0.9,rps_fractional=1000,eps=2,\
         named_metrics.foo=123,named_metrics.bar=0.2,utilization.total=0.5,request_cost.tokens=7.5",
        "TEXT  eps = 2 , rps_fractional=1e3,application_utilization=.8,, named_metrics.foo= 123,mem_utilization=9e-1, \
         utilization.total=0.50,request_cost.tokens=+7.5,",
        "cpu_utilization:0.7,application_utilization:0.8,mem_utilization:0.9,rps_fractional:1000,eps:2,\
         named_metrics.foo:123,utilization.total:0.5,request_cost.tokens:7.5",
        r#"JSON {"cpu_utilization": 0.7, "application_utilization": 0.8, "mem_utilization": 0.9, "rps_fractional": 1000,
           "eps": 2, "named_metrics": {"foo": 123, "bar": 0.2}, "utilization": {"total": 0.5},
           "request_cost": {"tokens": 7.5}}"#,
        r#"JSON {"applicationUtilization":0.8,"memUtilization":0.9,"rpsFractional":1000,"eps":2,"new":[{"a":null}],
           "namedMetrics":{"f\u006fo":123},"utilization":{"total":0.5},"requestCost":{"tokens":7.5}}"#,
        "BIN CWZmZmZmZuY/Ec3MzMzMzOw/IhEKBnRva2VucxEAAAAAAAAeQCoQCgV0b3RhbBEAAAAAAADgPzEA\
         AAAAAECPQDkAAAAAAAAAQEIOCgNmb28RAAAAAADAXkBCDgoDYmFyEZqZmZmZmck/SZqZmZmZmek/",
    ] {
        assert_eq!(read(value, &names), expected, "{value}");
    }
}

#[test]
fn a_message_of_grpc_go_is_read_with_and_without_padding_and_from_both_fields() {
    let expected = LoadReport { utilization: 0.5, qps: 100.0, eps: 2.0, named: named(&[4.0]) };
    let metrics = metrics(&["rif"]);
    for base64 in [GRPC_GO.to_owned(), format!("{GRPC_GO}==")] {
        assert_eq!(of_binary(base64.as_bytes(), &metrics), Ok(expected), "{base64}");
        assert_eq!(of_value(format!("BIN {base64}").as_bytes(), &metrics), Ok(expected), "{base64}");
    }
    assert_eq!(of_binary(GRPC_GO.as_bytes(), &Metrics::default()), Ok(LoadReport { named: named(&[]), ..expected }));
}

#[test]
fn an_empty_message_is_a_report_of_zeros_because_protobuf_leaves_zeros_out() {
    for value in ["BIN ", "BIN"] {
        assert_eq!(read(value, &[]), LoadReport::default());
    }
    assert_eq!(of_binary(b"", &Metrics::default()), Ok(LoadReport::default()));
}

#[test]
fn the_named_metrics_of_vllm_are_read_in_both_of_its_forms() {
    let names = ["kv_cache_usage_perc", "num_requests_waiting"];
    for value in [
        "TEXT named_metrics.kv_cache_usage_perc=0.25, named_metrics.num_requests_waiting=3.0",
        r#"JSON {"named_metrics": {"kv_cache_usage_perc": 0.25, "num_requests_waiting": 3.0}}"#,
    ] {
        assert_eq!(read(value, &names), LoadReport { named: named(&[0.25, 3.0]), ..LoadReport::default() });
        refuses(value, &[], Malformed::NothingUsed);
    }
    refuses("TEXT ", &names, Malformed::NothingUsed);
    refuses("JSON {}", &names, Malformed::NothingUsed);
}

#[test]
fn application_utilization_precedes_cpu_and_a_fraction_precedes_the_whole_rate() {
    assert_eq!(read("TEXT cpu_utilization=0.9,application_utilization=0", &[]).utilization, 0.9);
    assert_eq!(read("TEXT application_utilization=1.7,cpu_utilization=0.9", &[]).utilization, 1.7);
    assert_eq!(read("TEXT rps=7", &[]).qps, 7.0);
    assert_eq!(read("TEXT rps_fractional=6.5,rps=7", &[]).qps, 6.5);
    // Field 3, varint 300.
    assert_eq!(read("BIN GKwC", &[]).qps, 300.0);
}

#[test]
fn a_value_that_is_negative_or_not_finite_is_refused_if_it_is_used() {
    for value in ["-1", "-0.001", "nan", "NaN", "inf", "-inf", "infinity", "1e999", "0x1", "1,5", "1 2", "\"1\"", "x"] {
        refuses(
            &format!("TEXT cpu_utilization={value}"),
            &[],
            match value {
                "1,5" => Malformed::Entry,
                _ => Malformed::Value,
            },
        );
    }
    refuses("TEXT named_metrics.a=-1", &["a"], Malformed::Value);
    assert_eq!(read("TEXT named_metrics.a=-1,eps=1", &["b"]).eps, 1.0);
    refuses(r#"JSON {"cpu_utilization": -1}"#, &[], Malformed::Value);
    refuses(r#"JSON {"named_metrics": {"a": -1}}"#, &["a"], Malformed::Value);
    refuses(r#"JSON {"cpu_utilization": 1e999}"#, &[], Malformed::Json);
    // Field 1: -1, infinity, NaN.
    for base64 in ["CQAAAAAAAPC/", "CQAAAAAAAPB/", "CQAAAAAAAPh/"] {
        refuses(&format!("BIN {base64}"), &[], Malformed::Value);
    }
    let zero = read("TEXT cpu_utilization=-0", &[]).utilization;
    assert!(zero == 0.0 && zero.is_sign_positive());
}

#[test]
fn text_without_names_or_numbers_is_refused() {
    for value in ["TEXT cpu_utilization", "TEXT =1", "TEXT cpu_utilization=", "PROTO x", "text", "Ea5H", "TEXT :"] {
        refuses(value, &[], Malformed::Entry);
    }
    refuses("", &[], Malformed::NothingUsed);
    refuses("TEXT new_field=a,other:b", &[], Malformed::NothingUsed);
}

#[test]
fn json_of_another_shape_is_refused() {
    for value in [
        "{",
        "",
        "[]",
        "7",
        "null",
        "{\"cpu_utilization\": \"0.7\"}",
        "{\"cpu_utilization\": null}",
        "{\"eps\": NaN}",
        "{\"named_metrics\": 1}",
        "{\"named_metrics\": [1]}",
        "{\"named_metrics\": {\"a\": {}}}",
        "{\"eps\": 1} x",
        "{\"eps\": 1,}",
        "{\"eps\" 1}",
        "{\"\u{7}\": 1}",
        "\"named_metrics\": {\"a\": 0.4}",
    ] {
        refuses(&format!("JSON {value}"), &["a"], Malformed::Json);
    }
    let deep = format!("JSON {{\"new\": {}", "[".repeat(2000));
    refuses(&deep, &[], Malformed::Json);
}

#[test]
fn base64_of_another_alphabet_or_length_is_refused() {
    for value in ["A", "AAAAA", "AA==AA==", "CQ=", "A-_A", "CQAA AAAA", "C\u{e9}AA", "GK=C", "====", "CR"] {
        refuses(&format!("BIN {value}"), &[], Malformed::Base64);
    }
}

#[test]
fn a_message_that_is_cut_or_has_other_types_is_refused() {
    let message = of_binary(GRPC_GO.as_bytes(), &metrics(&["rif"]));
    assert!(message.is_ok());
    // Cut after each group of four digits; three of these cuts end a field.
    let cuts = (4..GRPC_GO.len()).step_by(4).map(|end| of_binary(&GRPC_GO.as_bytes()[..end], &Metrics::default()));
    let results: Vec<_> = cuts.collect();
    assert!(results.iter().filter(|result| **result == Err(Malformed::Message)).count() >= 10, "{results:?}");
    for (base64, why) in [
        ("CAE", "field 1 as a varint"),
        ("GQAAAAAAAPA/", "field 3 as a double"),
        ("QAE", "field 8 as a varint"),
        ("Cw", "a group"),
        ("Dw", "wire type 7"),
        ("AAE", "field 0"),
        ("QgUK", "an entry longer than the message"),
        ("GP///////////////w", "a varint of more than 10 bytes"),
        ("Qv//////////fw", "a length above every size"),
        ("QgIIAQ", "a key that is a varint"),
        ("QgUVAACAPw", "a value that is a float"),
    ] {
        assert_eq!(of_binary(base64.as_bytes(), &Metrics::default()), Err(Malformed::Message), "{why}");
    }
    // Field 15 with each type that has a length is skipped: a varint, a double, bytes, a float.
    for base64 in ["eAE", "eQAAAAAAAPC/", "egNhYmM", "fQAAgL8"] {
        assert_eq!(of_binary(base64.as_bytes(), &Metrics::default()), Ok(LoadReport::default()), "{base64}");
    }
}

#[test]
fn a_report_above_the_limit_is_refused_and_one_at_the_limit_is_read() {
    let fill = |len: usize| {
        let start = "TEXT eps=1,";
        format!("{start}{}", ",".repeat(len - start.len()))
    };
    assert_eq!(read(&fill(LIMIT), &[]).eps, 1.0);
    refuses(&fill(LIMIT + 1), &[], Malformed::TooLong);
    let digits = "A".repeat(LIMIT + 1);
    assert_eq!(of_binary(digits.as_bytes(), &Metrics::default()), Err(Malformed::TooLong));
    assert_eq!(of_binary(&digits.as_bytes()[1..], &Metrics::default()), Err(Malformed::Message), "field 0");
}

#[test]
fn of_two_fields_the_binary_one_counts() {
    let metrics = Metrics::default();
    let fields = |text: Option<&'static str>, binary: Option<&'static str>| {
        let found = of_fields(
            |name| match name {
                b"endpoint-load-metrics" => text.map(str::as_bytes),
                b"endpoint-load-metrics-bin" => binary.map(str::as_bytes),
                _ => None,
            },
            &metrics,
        );
        found.map(|report| report.map(|report| report.utilization))
    };
    assert_eq!(fields(None, None), None);
    assert_eq!(fields(Some("TEXT cpu_utilization=0.1"), None), Some(Ok(0.1)));
    assert_eq!(fields(Some("TEXT cpu_utilization=0.1"), Some(GRPC_GO)), Some(Ok(0.5)));
    assert_eq!(fields(Some("TEXT cpu_utilization=0.1"), Some("!")), Some(Err(Malformed::Base64)));
}

#[test]
fn lists_of_metrics_that_have_no_single_meaning_are_refused() {
    let refused = |names: &[&str]| Metrics::new(names).unwrap_err();
    assert_eq!(refused(&["a", "b", "c", "d", "e"]), BadMetric::TooMany(5));
    for name in ["", "a b", "a,b", "a=b", "é", "a\"b", "named_metrics.", "utilization.", &"x".repeat(129)] {
        assert_eq!(refused(&[name]), BadMetric::Name(name.to_owned()));
    }
    assert_eq!(refused(&["a", "named_metrics.a"]), BadMetric::Twice("a".to_owned(), "named_metrics.a".to_owned()));
    assert_eq!(refused(&["eps"]), BadMetric::Always("eps".to_owned()));
    let names = ["cpu_utilization", "vllm:queue", "a.b", "utilization.a.b"];
    assert!(metrics(&names).names().eq(names));
    let report =
        read("TEXT cpu_utilization=1,named_metrics.vllm:queue=2,named_metrics.a.b=3,utilization.a.b=4", &names);
    assert_eq!(report.named, [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn the_last_of_two_values_counts() {
    assert_eq!(read("TEXT eps=1,eps=2", &[]).eps, 2.0);
    assert_eq!(read(r#"JSON {"eps":1,"eps":2}"#, &[]).eps, 2.0);
    assert_eq!(read("BIN OQAAAAAAAPA/OQAAAAAAAABA", &[]).eps, 2.0);
}

#[test]
fn random_bytes_and_damaged_reports_cause_no_panic() {
    let (mut generator, metrics) = (fastrand::Rng::with_seed(7), metrics(&["foo", "utilization.total"]));
    let seeds: [&[u8]; 4] = [
        b"TEXT cpu_utilization=0.7,named_metrics.foo=123",
        br#"JSON {"cpu_utilization":0.7,"named_metrics":{"foo":123},"utilization":{"total":0.5}}"#,
        b"BIN CQAAAAAAAOA/MQAAAAAAAFlAOQAAAAAAAABAQg4KA3JpZhEAAAAAAAAQQA==",
        b"BIN ",
    ];
    for _ in 0..20_000 {
        let mut value = generator.choice(seeds).unwrap().to_vec();
        for _ in 0..generator.usize(0..4) {
            let at = generator.usize(0..=value.len());
            match generator.u8(0..3) {
                0 => value.insert(at, generator.u8(..)),
                1 => value.truncate(at),
                _ => value.iter_mut().skip(at).take(1).for_each(|byte| *byte = generator.u8(..)),
            }
        }
        for report in [of_value(&value, &metrics), of_binary(&value, &metrics)].into_iter().flatten() {
            let LoadReport { utilization, qps, eps, named } = report;
            let is_usable = |value: &f64| value.is_finite() && *value >= 0.0;
            assert!([utilization, qps, eps].iter().chain(&named).all(is_usable), "{report:?} of {value:?}");
        }
    }
}
