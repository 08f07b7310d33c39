/* by_cost.c: picks the backend whose responses have cost least in the last seconds. Plain C, no Rust.
 *
 * Why it exists: as an example of the answers of backends in C. by-cost/src/lib.rs is the same in Rust, with the same picks. Build it:
 *     cc -std=c11 -shared -fPIC -fvisibility=hidden -O2 -I ../kit/api/include -o libby_cost.so by_cost.c
 * The response says what it cost in the header x-cost, a whole number. Without it the cost is the size of both bodies in kilobytes. Each second
 * halves what a backend has cost so far. A request in flight costs what a response costs on average. Random bits decide between equal backends.
 * Invariants: statics never change. Memory that is allocated here is freed here. No argument is kept after its call, except the host.
 * Costs and live numbers are read and written atomically, because all workers use them at the same time. */
#define LB_STRATEGY_IMPL
#include <stdlib.h>

#include "lb_strategy.h"

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}
#define SECOND_NS 1000000000u
#define DIGITS_MAX 9 /* longer numbers are no cost */

/* The words of a backend's slot: the costs in thousandths, and the second when they were halved last. */
enum { COSTS, SECOND };

/* Clocks of workers differ by less. A time further ahead is from before the clock was set back; its costs are over. */
#define AHEAD_MAX_S 60

struct lb_strategy {
  const lb_host *host;
  uint64_t average; /* the cost of a response, in thousandths */
};
struct lb_picker { char nothing; }; /* there is no data to compute, so every picker is the same constant */
static const lb_picker THE_PICKER = {0};

static lb_status strategy_new(const lb_host *host, lb_str config, lb_sink *err, lb_strategy **out) {
  for (size_t i = 0; i < config.len; i++) {
    if (config.ptr[i] == '"') {
      static const lb_str reason = TEXT("by_cost has no options");
      host->sink_write(err, reason);
      return LB_E_CONFIG;
    }
  }
  lb_strategy *strategy = malloc(sizeof *strategy);
  if (strategy == NULL) return LB_E_OTHER;
  strategy->host = host;
  strategy->average = 1000;
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

static void store(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELAXED); }

/* What is left of a backend's costs in this second. */
static uint64_t left(const lb_slot *slot, uint64_t second) {
  uint64_t since = load(&slot->word[SECOND]), passed = second > since ? second - since : 0;
  if (since > second + AHEAD_MAX_S) return 0;
  return load(&slot->word[COSTS]) >> (passed < 63 ? passed : 63);
}

static uint64_t cost(const lb_backend *backend, uint64_t second, uint64_t average) {
  return left(backend->slot, second) + __atomic_load_n(&backend->stats->in_flight, __ATOMIC_RELAXED) * average;
}

static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends,
                      const lb_request *request, lb_pick *out) {
  uint64_t average = load(&strategy->average), second = request->now_ns / SECOND_NS, n = lb_candidate_count(backends, request);
  uint64_t first = ((request->rand >> 32) * n) >> 32, place = 0, least = 0, least_order = UINT64_MAX;
  (void)picker;
  if (n == 0) return LB_NONE;
  for (uint32_t i = 0; i < backends->n_eligible; i++) {
    uint32_t index = backends->eligible[i];
    if (lb_is_tried(request, index)) continue;
    /* Of equal ones, the first behind a random place. */
    uint64_t order = (place++ + n - first) % n, now = cost(LB_BACKEND(backends, index), second, average);
    if (least_order == UINT64_MAX || now < least || (now == least && order < least_order))
      out->index = index, least = now, least_order = order;
  }
  return LB_OK;
}

/* The cost that the response tells, in thousandths; else the bytes of both bodies. */
static uint64_t cost_of(const lb_finish *finish) {
  uint64_t number = 0, bytes = finish->bytes_in + finish->bytes_out;
  lb_str text = finish->n_response_headers > 0 ? finish->response_headers[0] : (lb_str){NULL, 0};
  if (text.ptr == NULL || text.len == 0 || text.len > DIGITS_MAX) return bytes;
  for (size_t i = 0; i < text.len; i++) {
    if (text.ptr[i] < '0' || text.ptr[i] > '9') return bytes;
    number = number * 10 + (uint64_t)(text.ptr[i] - '0');
  }
  return number * 1000;
}

/* Workers may call it at the same time: then a cost may be lost. */
static void on_finish(lb_strategy *strategy, const lb_finish *finish) {
  if (finish->slot == NULL) return;
  uint64_t *word = finish->slot->word, told = cost_of(finish), second = finish->now_ns / SECOND_NS, rest = left(finish->slot, second);
  if (told == 0) told = 1;
  if (__atomic_exchange_n(&word[SECOND], second, __ATOMIC_RELAXED) != second) store(&word[COSTS], rest);
  __atomic_fetch_add(&word[COSTS], told, __ATOMIC_RELAXED);
  uint64_t average = load(&strategy->average);
  average = average - average / 8 + told / 8;
  store(&strategy->average, average > 0 ? average : 1);
}

static const lb_str RESPONSE_HEADERS[] = {TEXT("x-cost")};

static const lb_strategy_table TABLE = {
    .size = sizeof TABLE,
    .abi_major = LB_ABI_MAJOR,
    .abi_minor = LB_ABI_MINOR,
    .min_host_minor = 1, /* it reads the slice of eligible backends and the answers */
    .flags = LB_F_WANTS_FINISH | LB_F_WANTS_ANSWER,
    .name = TEXT("by_cost"),
    .version = TEXT("0.1.0"),
    .build = TEXT("C"),
    .strategy_new = strategy_new,
    .strategy_free = strategy_free,
    .picker_new = picker_new,
    .picker_free = picker_free,
    .pick = pick,
    .on_finish = on_finish,
    .response_headers = RESPONSE_HEADERS,
    .n_response_headers = 1,
};

const lb_strategy_table *lb_strategy_entry_v1(const lb_host *host) {
  return host->request_size >= sizeof(lb_request) ? &TABLE : NULL;
}
