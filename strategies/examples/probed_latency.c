/* probed_latency.c: of two random backends, picks the one that answered its probes faster and is less busy. Plain C, no Rust.
 *
 * Why it exists: as an example of periodic probes in C. probed-latency/src/lib.rs is the same in Rust, with the same picks. Build it:
 *     cc -std=c11 -shared -fPIC -fvisibility=hidden -O2 -I ../kit/api/include -o libprobed_latency.so probed_latency.c
 * It needs [strategy.probe] with a path. lb probes each eligible backend about every 100 ms. Until both backends of a draw were probed, the one
 * with fewer requests in flight is picked. A failed probe counts as a latency of at least a second.
 * Invariants: statics never change. Memory that is allocated here is freed here. No argument is kept after its call, except the host.
 * Only on_probe writes the words of the slots, on the builder thread; workers read them at the same time. */
#define LB_STRATEGY_IMPL
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lb_strategy.h"

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}
#define FAILED_US 1000000u

/* The words of a backend's slot. The average latency is in microseconds; 0: no probe has ended. */
enum { LATENCY, GOOD, FAILED };

struct lb_strategy { const lb_host *host; };
struct lb_picker { char nothing; }; /* there is no data to compute, so every picker is the same constant */
static const lb_picker THE_PICKER = {0};

static lb_status strategy_new(const lb_host *host, lb_str config, lb_sink *err, lb_strategy **out) {
  for (size_t i = 0; i < config.len; i++) {
    if (config.ptr[i] == '"') {
      static const lb_str reason = TEXT("probed_latency has no options");
      host->sink_write(err, reason);
      return LB_E_CONFIG;
    }
  }
  lb_strategy *strategy = malloc(sizeof *strategy);
  if (strategy == NULL) return LB_E_OTHER;
  strategy->host = host;
  *out = strategy;
  return LB_OK;
}

static void strategy_free(lb_strategy *strategy) { free(strategy); }

static lb_status picker_new(lb_strategy *strategy, const lb_backends *backends, lb_sink *err, lb_picker **out) {
  (void)strategy, (void)backends, (void)err;
  *out = (lb_picker *)&THE_PICKER;
  return LB_OK;
}

static void picker_free(lb_picker *picker) { (void)picker; }

static uint64_t load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }

static uint64_t in_flight(const lb_backend *backend) { return __atomic_load_n(&backend->stats->in_flight, __ATOMIC_RELAXED); }

static int is_better(const lb_backend *one, const lb_backend *other) {
  uint64_t latency = load(&one->slot->word[LATENCY]), other_latency = load(&other->slot->word[LATENCY]);
  if (latency == 0 || other_latency == 0) return in_flight(one) < in_flight(other);
  return latency * (in_flight(one) + 1) < other_latency * (in_flight(other) + 1);
}

static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends,
                      const lb_request *request, lb_pick *out) {
  (void)strategy, (void)picker;
  uint64_t n = lb_candidate_count(backends, request);
  if (n == 0) return LB_NONE;
  /* Two draws from 64 random bits. The second is one of the n - 1 others. */
  uint64_t first = ((request->rand >> 32) * n) >> 32;
  uint64_t second = (first + 1 + (((request->rand & 0xFFFFFFFFu) * (n - 1)) >> 32)) % n;
  uint32_t one = lb_candidate(backends, request, (uint32_t)first);
  uint32_t other = lb_candidate(backends, request, (uint32_t)second);
  out->index = is_better(LB_BACKEND(backends, other), LB_BACKEND(backends, one)) ? other : one;
  return LB_OK;
}

static void on_probe(lb_strategy *strategy, const lb_probe *probe) {
  (void)strategy;
  if (probe->slot == NULL) return;
  uint64_t *word = probe->slot->word, before = load(&word[LATENCY]), latency = probe->latency_ns / 1000;
  int is_good = probe->outcome == 0 && probe->http_status < 500;
  if (is_good && latency == 0) latency = 1;
  if (!is_good) latency = before > FAILED_US ? before : FAILED_US;
  __atomic_store_n(&word[LATENCY], before == 0 ? latency : before - before / 4 + latency / 4, __ATOMIC_RELAXED);
  __atomic_fetch_add(&word[is_good ? GOOD : FAILED], 1, __ATOMIC_RELAXED);
}

/* Writes what the probes of each backend have told. Names need no escapes in JSON. */
static lb_status explain(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends, const lb_request *request,
                         lb_sink *out) {
  const lb_host *host = strategy->host;
  char text[512] = "{\"probes\":[";
  (void)picker, (void)request;
  host->sink_write(out, (lb_str){(const uint8_t *)text, strlen(text)});
  for (uint32_t index = 0; index < backends->len; index++) {
    const lb_backend *backend = LB_BACKEND(backends, index);
    const uint64_t *word = backend->slot->word;
    snprintf(text, sizeof text, "%s{\"backend\":\"%.*s\",\"latency_us\":%llu,\"good\":%llu,\"failed\":%llu}", index > 0 ? "," : "",
             (int)backend->name.len, (const char *)backend->name.ptr, (unsigned long long)load(&word[LATENCY]),
             (unsigned long long)load(&word[GOOD]), (unsigned long long)load(&word[FAILED]));
    host->sink_write(out, (lb_str){(const uint8_t *)text, strlen(text)});
  }
  host->sink_write(out, (lb_str){(const uint8_t *)"]}", 2});
  return LB_OK;
}

static const lb_strategy_table TABLE = {
    .size = sizeof TABLE,
    .abi_major = LB_ABI_MAJOR,
    .abi_minor = LB_ABI_MINOR,
    .min_host_minor = 1, /* it reads the slice of eligible backends */
    .name = TEXT("probed_latency"),
    .version = TEXT("0.1.0"),
    .build = TEXT("C"),
    .expectation = TEXT("{\"balance\":\"by_latency\"}"),
    .strategy_new = strategy_new,
    .strategy_free = strategy_free,
    .picker_new = picker_new,
    .picker_free = picker_free,
    .pick = pick,
    .explain = explain,
    .on_probe = on_probe,
    .probe_ms = 100,
};

const lb_strategy_table *lb_strategy_entry_v1(const lb_host *host) {
  return host->request_size >= sizeof(lb_request) ? &TABLE : NULL;
}
