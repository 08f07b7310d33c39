//! Whether the numbers are the server's or the generator's own: the self-check, and its reasons in words.

use super::outcome::{ErrorKind, Segment};

/// The generator may be late by this part of the median service time.
const LAG_SHARE: f64 = 0.10;
/// Lateness up to this is never held against a run: a process that the kernel has to wake for each request, and that does not burn
/// a core, is late by 50 to 150 µs at the 99th percentile on ordinary virtual machines. It is in the latency, so it cannot hide.
const LAG_FLOOR_NS: u64 = 200_000;
/// A thread that is this busy sends late, or too little, for want of processor time.
const CPU_SHARE: f64 = 0.90;
/// Fewer requests than this say nothing about a 99th percentile.
const ENOUGH: u64 = 1_000;

/// What speaks against a run's numbers. `total`: all measured segments; `cpu_s`: of each thread.
pub(super) fn doubts(total: &Segment, cpu_s: &[f64], wall_s: f64, is_closed_loop: bool) -> Vec<String> {
    let mut doubts = Vec::new();
    let ms = |ns: u64| ns as f64 / 1e6;
    let allowed = LAG_FLOOR_NS.max((total.service.value_at_quantile(0.5) as f64 * LAG_SHARE) as u64);
    let lag = total.lag.value_at_quantile(0.99);
    if total.lag.len() >= ENOUGH && lag > allowed {
        doubts.push(format!(
            "requests were sent late: by {:.3} ms at the 99th percentile, where {:.3} ms are allowed (a tenth of the median \
             service time, at least {:.1} ms). Give the load generator a core of its own, or ask for fewer requests",
            ms(lag),
            ms(allowed),
            ms(LAG_FLOOR_NS)
        ));
    }
    let busiest = cpu_s.iter().copied().fold(0.0, f64::max);
    if total.due >= ENOUGH && busiest > CPU_SHARE * wall_s {
        let meaning = if is_closed_loop {
            "the throughput is what the generator can do, the server may be able to do more"
        } else {
            "it was short of processor time"
        };
        doubts.push(format!(
            "a sending thread was busy {:.0} % of the time: {meaning}. Use more threads, on cores of their own",
            busiest / wall_s * 100.0
        ));
    }
    let local = total.errors.of(ErrorKind::Local);
    if local > 0 {
        doubts.push(format!(
            "{local} requests found no free port or file descriptor on this machine: fewer connections, or a higher limit (ulimit -n)"
        ));
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(service_ns: u64, lag_ns: u64) -> Segment {
        let mut segment = Segment::new(0);
        for _ in 0..ENOUGH {
            segment.due += 1;
            segment.service.record(service_ns).unwrap();
            segment.lag.record(lag_ns).unwrap();
        }
        segment
    }

    #[test]
    fn lateness_is_held_against_what_the_server_takes() {
        let late = |service, lag| doubts(&segment(service, lag), &[0.1], 1.0, false);
        assert!(late(10_000_000, 900_000).is_empty());
        assert!(late(10_000_000, 1_100_000)[0].contains("1.1"), "{:?}", late(10_000_000, 1_100_000));
        assert!(late(100_000, 190_000).is_empty(), "below the floor");
        assert_eq!(late(100_000, 250_000).len(), 1);
    }

    #[test]
    fn one_busy_thread_is_enough() {
        let busy = |cpu_s: &[f64], is_closed| doubts(&segment(1_000_000, 1000), cpu_s, 10.0, is_closed);
        assert!(busy(&[8.9, 1.0], false).is_empty());
        assert!(busy(&[1.0, 9.5], false)[0].contains("95 %"));
        assert!(busy(&[9.5], true)[0].contains("the server may be able to do more"));
    }

    #[test]
    fn limits_of_this_machine_are_told() {
        let mut segment = segment(1_000_000, 1000);
        segment.errors.count(ErrorKind::Local);
        assert!(doubts(&segment, &[0.0], 1.0, false)[0].contains("port"));
    }
}
