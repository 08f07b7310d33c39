/* duties.c: its own metrics tell which hooks lb has called. A word in its options selects what it does:
 * "rebuild" each tick asks for a new picker; "refuse" the same, and pickers are refused after the second tick; "fail" ticks and collections
 * of metrics fail after the first; "bad" some metrics are not valid after the first collection; "bad_at_once" also in the first;
 * "spin" the second tick does not return; "crash_begin" and "crash_metrics" crash there; "probe_panics" and "probe_crashes" do so in on_probe
 * after a 418.
 * Why it exists: tests need a strategy whose calls can be seen from outside. Why not at once: the trial would refuse it. */
#define LB_STRATEGY_IMPL
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lb_strategy.h"

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}

struct lb_strategy {
  const lb_host *host;
  char options[256];
  uint64_t ticks, tick_ns, pickers, collections;
  _Atomic uint64_t starts, own_starts, finishes, probes;
};
struct lb_picker { char nothing; };
static const lb_picker THE_PICKER = {0};

static int is(const lb_strategy *strategy, const char *way) { return strstr(strategy->options, way) != NULL; }

static lb_status strategy_new(const lb_host *host, lb_str config, lb_sink *err, lb_strategy **out) {
  (void)err;
  lb_strategy *strategy = calloc(1, sizeof *strategy);
  if (strategy == NULL) return LB_E_OTHER;
  strategy->host = host;
  memcpy(strategy->options, config.ptr, config.len < sizeof strategy->options ? config.len : sizeof strategy->options - 1);
  *out = strategy;
  return LB_OK;
}
static void strategy_free(lb_strategy *strategy) { free(strategy); }
static lb_status picker_new(lb_strategy *strategy, const lb_backends *backends, lb_sink *err, lb_picker **out) {
  static const lb_str reason = TEXT("one picker is enough");
  (void)backends;
  if (is(strategy, "refuse") && strategy->ticks > 1) {
    strategy->host->sink_write(err, reason);
    return LB_E_OTHER;
  }
  strategy->pickers++;
  *out = (lb_picker *)&THE_PICKER;
  return LB_OK;
}
static void picker_free(lb_picker *picker) { (void)picker; }
static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends, const lb_request *request,
                      lb_pick *out) {
  uint32_t n = lb_candidate_count(backends, request);
  (void)strategy, (void)picker;
  if (n == 0) return LB_NONE;
  out->index = lb_candidate(backends, request, (uint32_t)(request->rand % n));
  return LB_OK;
}
static void on_start(lb_strategy *strategy, const lb_start *start) {
  if (is(strategy, "crash_begin")) abort();
  strategy->starts++;
  if (start->flags & LB_FIN_OWN) strategy->own_starts++;
}
static void on_finish(lb_strategy *strategy, const lb_finish *finish) {
  (void)finish;
  strategy->finishes++;
}
static void on_probe(lb_strategy *strategy, const lb_probe *probe) {
  static const lb_str panic = TEXT("panicked at duties.c: a probe");
  strategy->probes++;
  if (probe->http_status != 418) return;
  if (is(strategy, "probe_panics")) strategy->host->log(strategy->host->ctx, 1, panic);
  if (is(strategy, "probe_crashes")) abort();
}
static lb_status tick(lb_strategy *strategy, uint64_t now_ns) {
  if (is(strategy, "fail") && strategy->ticks > 0) return LB_E_OTHER;
  if (is(strategy, "spin") && strategy->ticks > 0) for (volatile int on = 1; on;) {}
  strategy->ticks++;
  strategy->tick_ns = now_ns;
  return is(strategy, "rebuild") || is(strategy, "refuse") ? LB_REBUILD : LB_OK;
}
static void tell(const lb_strategy *strategy, lb_sink *out, const char *name, uint64_t value) {
  char line[256];
  int length = snprintf(line, sizeof line, "{\"name\":\"%s\",\"type\":\"counter\",\"help\":\"Of the fixture.\",\"value\":%llu}\n", name,
                        (unsigned long long)value);
  strategy->host->sink_write(out, (lb_str){(const uint8_t *)line, (size_t)length});
}
static lb_status metrics(lb_strategy *strategy, lb_sink *out) {
  static const lb_str bad = TEXT("{\"name\":\"Bad\",\"type\":\"gauge\",\"help\":\"Its name is not valid.\",\"value\":1}\nnonsense\n");
  if (is(strategy, "crash_metrics")) abort();
  strategy->collections++;
  if (is(strategy, "fail") && strategy->collections > 1) return LB_E_OTHER;
  tell(strategy, out, "ticks_total", strategy->ticks);
  tell(strategy, out, "clock_ns_total", strategy->tick_ns);
  tell(strategy, out, "pickers_total", strategy->pickers);
  if (is(strategy, "bad_at_once") || (is(strategy, "bad") && strategy->collections > 1))
    strategy->host->sink_write(out, bad);
  tell(strategy, out, "starts_total", strategy->starts);
  tell(strategy, out, "own_starts_total", strategy->own_starts);
  tell(strategy, out, "finishes_total", strategy->finishes);
  tell(strategy, out, "probes_total", strategy->probes);
  return LB_OK;
}

static const lb_strategy_table TABLE = {
    .size = sizeof TABLE,
    .abi_major = LB_ABI_MAJOR,
    .abi_minor = LB_ABI_MINOR,
    .min_host_minor = 1,
    .flags = LB_F_WANTS_FINISH,
    .name = TEXT("duties"),
    .version = TEXT("1"),
    .build = TEXT("C"),
    .tick_ms = 5,
    .strategy_new = strategy_new,
    .strategy_free = strategy_free,
    .picker_new = picker_new,
    .picker_free = picker_free,
    .pick = pick,
    .on_finish = on_finish,
    .tick = tick,
    .on_start = on_start,
    .metrics = metrics,
    .on_probe = on_probe,
    .probe_ms = 1,
};

const lb_strategy_table *lb_strategy_entry_v1(const lb_host *host) {
  return host->request_size >= sizeof(lb_request) ? &TABLE : NULL;
}
