//! The queue of a pool: its sums, and the series of its adaptive limit.

use super::*;

#[test]
fn the_queue_of_a_pool_is_summed_over_workers_and_listeners() {
    let (metrics, seconds) = hub_with_clock();
    metrics.set_strategy("p", "s", "1");
    let queues = [0, 1].map(|worker| metrics.queue(worker, "p"));
    let limit = |metrics: &Metrics| scrape(metrics).find("lb_queue_adaptive_limit", &[("pool", "p")]);
    assert_eq!((limit(&metrics), metrics.queue_totals("p")), (None, QueueTotals::default()), "there is none");
    queues.iter().for_each(|queue| queue.adaptive_limit.set(7));
    for (worker, listener) in [(0, "l"), (0, "m"), (1, "l")] {
        metrics.pool(worker, listener, "p").queue_entered();
    }
    metrics.pool(1, "l", "p").held.inc();
    metrics.pool(0, "m", "p").queue_left(Duration::from_millis(1));
    let totals = QueueTotals { waiting: 2, held: 1, adaptive_limit: Some(14) };
    assert_eq!((limit(&metrics), metrics.queue_totals("p")), (Some(14.0), totals));
    assert_eq!(metrics.queue_totals("unknown"), QueueTotals::default());
    // A pool that is gone keeps neither its series nor its memory.
    drop(queues);
    metrics.retire_pool("p");
    for _ in 0..2 {
        scrape(&metrics);
        seconds.fetch_add(300, Ordering::Relaxed);
    }
    assert_eq!((limit(&metrics), metrics.queue_totals("p")), (None, QueueTotals::default()));
}
