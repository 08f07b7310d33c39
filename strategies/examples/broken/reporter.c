/* reporter.c: picks the first candidate, and `explain` tells all that its hooks got. The header "x-status" of a request sets the status that
 * its pick returns, and "x-probe" the indexes of the probes, a digit each. The first tick asks for a new picker. A response 418 makes its end, or that of a probe, panic. The crate `reporter` is the same in Rust, with the same state.
 * Why it exists: tests read from it, in a running lb, whether lb keeps each promise of the header.
 * Invariant: workers write their reports under a spin lock, because this is a test and no example. */
#define LB_STRATEGY_IMPL
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lb_strategy.h"

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}
#define NUMBER(value) ((unsigned long long)(value))

struct text { size_t len; char at[4096]; };
struct lb_strategy {
  const lb_host *host;
  atomic_flag busy;
  struct text picked, started, finished, probed;
  uint64_t ticks, tick_ns, pickers, imported, starts, finishes, probes, outcomes[6];
  _Atomic uint64_t waits, overlaps, shadow_picks, own_ends, workers; /* workers: a bit for each one that picked */
  _Atomic uint32_t inside[64];               /* calls of a worker now */
};
struct lb_picker { const lb_host *host; };

static void put(struct text *text, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int written = vsnprintf(text->at + text->len, sizeof text->at - text->len, format, arguments);
  va_end(arguments);
  if (written < 0 || (size_t)written >= sizeof text->at - text->len) abort();
  text->len += (size_t)written;
}
/* At most 64 bytes; those that JSON would have to escape are replaced. */
static void put_text(struct text *text, const char *before, int is_found, lb_str value) {
  put(text, is_found ? "%s\"" : "%snull", before);
  if (!is_found) return;
  for (size_t i = 0; i < value.len && i < 64; i++) {
    int is_plain = value.ptr[i] >= ' ' && value.ptr[i] < 127 && value.ptr[i] != '"' && value.ptr[i] != '\\';
    put(text, "%c", is_plain ? value.ptr[i] : '?');
  }
  put(text, "\"");
}
static void flush(const lb_host *host, lb_sink *out, struct text *text) {
  host->sink_write(out, (lb_str){(const uint8_t *)text->at, text->len});
  text->len = 0;
}
static void lock(lb_strategy *strategy) {
  while (atomic_flag_test_and_set(&strategy->busy)) {}
}
static void unlock(lb_strategy *strategy) { atomic_flag_clear(&strategy->busy); }
static void say(const lb_host *host, uint32_t level, const char *line) {
  host->log(host->ctx, level, (lb_str){(const uint8_t *)line, strlen(line)});
}
static void enter(lb_strategy *strategy, uint32_t worker) {
  if (worker < 64 && strategy->inside[worker]++ != 0) strategy->overlaps++;
}
static void leave(lb_strategy *strategy, uint32_t worker) {
  if (worker < 64) strategy->inside[worker]--;
}
static int is_worker(const lb_host *host, uint32_t worker) { return worker < host->n_workers; }

static lb_status strategy_new(const lb_host *host, lb_str config, lb_sink *err, lb_strategy **out) {
  static const lb_str reason = TEXT("the reporter has no options");
  if (config.len != 2) {
    host->sink_write(err, reason);
    return LB_E_CONFIG;
  }
  lb_strategy *strategy = calloc(1, sizeof *strategy);
  if (strategy == NULL) return LB_E_OTHER;
  strategy->host = host;
  put(&strategy->picked, "null"), put(&strategy->started, "null"), put(&strategy->finished, "null"), put(&strategy->probed, "null");
  *out = strategy;
  return LB_OK;
}
static void strategy_free(lb_strategy *strategy) {
  say(strategy->host, 3, "a reporter in C is freed");
  free(strategy);
}
static lb_status picker_new(lb_strategy *strategy, const lb_backends *backends, lb_sink *err, lb_picker **out) {
  (void)backends, (void)err;
  lb_picker *picker = calloc(1, sizeof *picker);
  if (picker == NULL) return LB_E_OTHER;
  picker->host = strategy->host;
  strategy->pickers++;
  *out = picker;
  return LB_OK;
}
static void picker_free(lb_picker *picker) {
  say(picker->host, 3, "a picker in C is freed");
  free(picker);
}

static void report_request(lb_strategy *strategy, const lb_request *request) {
  static const lb_str name = TEXT("X-Two");
  static const char *parts[] = {"method", "path", "host"};
  struct text *to = &strategy->picked;
  lb_str value = {NULL, 0};
  to->len = 0;
  put(to, "{\"dry\":%d,\"is_worker\":%d,\"attempt\":%u,\"tried\":[", (request->flags & LB_REQ_DRY) != 0,
      is_worker(strategy->host, request->worker), request->attempt);
  for (uint32_t i = 0; i < request->n_tried && i < 64; i++) put(to, "%s%u", i ? "," : "", request->tried[i]);
  int has_key = (request->flags & LB_REQ_HASH) != 0;
  put_text(to, "],\"key\":", has_key, request->key);
  if (has_key) put(to, ",\"hash\":%llu", NUMBER(request->hash));
  else put(to, ",\"hash\":null");
  put(to, ",\"rand\":%llu,\"now_ns\":%llu,\"headers\":[", NUMBER(request->rand), NUMBER(request->now_ns));
  for (uint32_t nth = 0; nth < 3; nth++) put_text(to, nth ? "," : "", request->header(request, name, nth, &value), value);
  put(to, "]");
  for (uint32_t which = LB_PART_METHOD; which <= LB_PART_HOST; which++) {
    put(to, ",\"%s\":", parts[which]);
    put_text(to, "", request->part(request, which, &value), value);
  }
  put(to, ",\"client\":\"");
  if (request->part(request, LB_PART_CLIENT, &value))
    for (size_t i = 0; i < value.len; i++) put(to, "%02x", value.ptr[i]);
  put(to, "\",\"body\":");
  put_text(to, "", request->part(request, LB_PART_BODY, &value), value);
  if (request->body_length == UINT64_MAX) put(to, ",\"body_length\":null}");
  else put(to, ",\"body_length\":%llu}", NUMBER(request->body_length));
}
static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends, const lb_request *request,
                      lb_pick *out) {
  static const lb_str name = TEXT("x-status"), probes = TEXT("x-probe");
  lb_str value = {NULL, 0};
  (void)picker;
  if (!(request->flags & LB_REQ_DRY)) {
    enter(strategy, request->worker);
    if (request->worker < 64) strategy->workers |= UINT64_C(1) << request->worker;
    if (request->flags & LB_REQ_SHADOW) strategy->shadow_picks++;
    lock(strategy);
    report_request(strategy, request);
    unlock(strategy);
    leave(strategy, request->worker);
  }
  if (request->header(request, name, 0, &value)) {
    char text[16] = {0};
    memcpy(text, value.ptr, value.len < sizeof text ? value.len : sizeof text - 1);
    lb_status status = (lb_status)strtol(text, NULL, 10);
    if (status == LB_WAIT) strategy->waits++;
    return status;
  }
  if (lb_candidate_count(backends, request) == 0) return LB_NONE;
  out->index = lb_candidate(backends, request, 0);
  out->token = request->rand;
  if (request->header(request, probes, 0, &value)) {
    out->n_probes = (uint32_t)value.len;
    for (size_t i = 0; i < value.len && i < LB_PROBES_MAX; i++) out->probe[i] = (uint32_t)(value.ptr[i] - '0');
  }
  return LB_OK;
}

static void on_start(lb_strategy *strategy, const lb_start *start) {
  if (!LB_HAS(start, lb_start, now_ns)) return;
  enter(strategy, start->worker);
  lock(strategy);
  struct text *to = &strategy->started;
  to->len = 0;
  put(to, "{\"is_worker\":%d,\"backend_id\":%llu,\"has_slot\":%d,\"attempt\":%u,\"own\":%d,\"token\":%llu,",
      is_worker(strategy->host, start->worker), NUMBER(start->backend_id), start->slot != NULL, start->attempt,
      (start->flags & LB_FIN_OWN) != 0, NUMBER(start->token));
  if (start->body_length == UINT64_MAX) put(to, "\"body_length\":null,");
  else put(to, "\"body_length\":%llu,", NUMBER(start->body_length));
  put(to, "\"now_ns\":%llu}", NUMBER(start->now_ns));
  strategy->starts++;
  unlock(strategy);
  leave(strategy, start->worker);
}
static void on_finish(lb_strategy *strategy, const lb_finish *finish) {
  if (!LB_HAS(finish, lb_finish, n_response_headers)) return;
  if (finish->http_status == 418) say(strategy->host, 1, "panicked at a teapot");
  enter(strategy, finish->worker);
  lock(strategy);
  struct text *to = &strategy->finished;
  to->len = 0;
  put(to, "{\"is_worker\":%d,\"backend_id\":%llu,\"has_slot\":%d,\"outcome\":%u,\"http_status\":%u,\"attempt\":%u,",
      is_worker(strategy->host, finish->worker), NUMBER(finish->backend_id), finish->slot != NULL, finish->outcome,
      finish->http_status, finish->attempt);
  put(to, "\"own\":%d,\"upgraded\":%d,\"token\":%llu,\"ttfb_ns\":%llu,\"total_ns\":%llu,\"now_ns\":%llu,",
      (finish->flags & LB_FIN_OWN) != 0, (finish->flags & LB_FIN_UPGRADED) != 0, NUMBER(finish->token),
      NUMBER(finish->ttfb_ns), NUMBER(finish->total_ns), NUMBER(finish->now_ns));
  put(to, "\"bytes_in\":%llu,\"bytes_out\":%llu,\"first_body_ns\":%llu,\"headers\":[", NUMBER(finish->bytes_in),
      NUMBER(finish->bytes_out), NUMBER(finish->first_body_ns));
  for (uint32_t i = 0; i < finish->n_response_headers; i++)
    put_text(to, i ? "," : "", finish->response_headers[i].ptr != NULL, finish->response_headers[i]);
  put(to, "]}");
  strategy->finishes++;
  if (finish->flags & LB_FIN_OWN && finish->token != 0) strategy->own_ends++;
  if (finish->outcome < 6) strategy->outcomes[finish->outcome]++;
  unlock(strategy);
  leave(strategy, finish->worker);
  if (finish->slot != NULL) __atomic_fetch_add(&finish->slot->word[0], 1, __ATOMIC_RELAXED);
}

static void on_probe(lb_strategy *strategy, const lb_probe *probe) {
  if (!LB_HAS(probe, lb_probe, n_response_headers)) return;
  if (probe->http_status == 418) say(strategy->host, 1, "panicked at a teapot");
  enter(strategy, probe->worker);
  lock(strategy);
  struct text *to = &strategy->probed;
  to->len = 0;
  put(to, "{\"is_worker\":%d,\"is_periodic\":%d,\"backend_id\":%llu,\"has_slot\":%d,\"outcome\":%u,\"http_status\":%u,",
      is_worker(strategy->host, probe->worker), probe->worker == LB_WORKER_ANY, NUMBER(probe->backend_id), probe->slot != NULL,
      probe->outcome, probe->http_status);
  put(to, "\"latency_ns\":%llu,\"now_ns\":%llu,\"headers\":[", NUMBER(probe->latency_ns), NUMBER(probe->now_ns));
  for (uint32_t i = 0; i < probe->n_response_headers; i++)
    put_text(to, i ? "," : "", probe->response_headers[i].ptr != NULL, probe->response_headers[i]);
  put_text(to, "],\"body\":", 1, probe->body);
  put(to, ",\"body_length\":%llu}", NUMBER(probe->body.len));
  strategy->probes++;
  unlock(strategy);
  leave(strategy, probe->worker);
}

static lb_status state_export(lb_strategy *strategy, lb_sink *out) {
  struct text text = {0};
  put(&text, "%llu", NUMBER(strategy->finishes + strategy->imported));
  flush(strategy->host, out, &text);
  return LB_OK;
}
static lb_status state_import(lb_strategy *strategy, uint32_t version, lb_str bytes, lb_sink *err) {
  static const lb_str reason = TEXT("a reporter's state is a number, in version 1");
  char text[32] = {0};
  if (version != 1 || bytes.len == 0 || bytes.len >= sizeof text) {
    strategy->host->sink_write(err, reason);
    return LB_E_STATE;
  }
  memcpy(text, bytes.ptr, bytes.len);
  strategy->imported = strtoull(text, NULL, 10);
  return LB_OK;
}
static lb_status tick(lb_strategy *strategy, uint64_t now_ns) {
  strategy->ticks++;
  strategy->tick_ns = now_ns;
  return strategy->ticks == 1 ? LB_REBUILD : LB_OK;
}
static lb_status metrics(lb_strategy *strategy, lb_sink *out) {
  struct text text = {0};
  put(&text, "{\"name\":\"ticks_total\",\"type\":\"counter\",\"help\":\"Ticks.\",\"value\":%llu}\n", NUMBER(strategy->ticks));
  put(&text, "{\"name\":\"shadow_picks_total\",\"type\":\"counter\",\"help\":\"Picks as a shadow.\",\"value\":%llu}\n", NUMBER(strategy->shadow_picks));
  put(&text, "{\"name\":\"ends_total\",\"type\":\"counter\",\"help\":\"Ends.\",\"value\":%llu}\n", NUMBER(strategy->finishes));
  put(&text, "{\"name\":\"own_ends_total\",\"type\":\"counter\",\"help\":\"Ends of own picks.\",\"value\":%llu}\n", NUMBER(strategy->own_ends));
  put(&text, "{\"name\":\"share\",\"type\":\"gauge\",\"help\":\"A share.\",\"value\":0.25,\"backend\":\"b2\"}\n");
  flush(strategy->host, out, &text);
  return LB_OK;
}

static void report_list(const lb_host *host, lb_sink *out, struct text *to, const lb_backends *backends) {
  put(to, "{\"epoch\":%llu,\"members_epoch\":%llu,\"eligible\":[", NUMBER(backends->epoch), NUMBER(backends->members_epoch));
  for (uint32_t i = 0; i < backends->n_eligible; i++) {
    put(to, "%s%u", i ? "," : "", backends->eligible[i]);
    flush(host, out, to);
  }
  put(to, "],\"backends\":[");
  for (uint32_t i = 0; i < backends->len; i++) {
    const lb_backend *backend = LB_BACKEND(backends, i);
    put(to, "%s{\"id\":%llu,", i ? "," : "", NUMBER(backend->id));
    put_text(to, "\"name\":", 1, backend->name);
    put_text(to, ",\"addr\":", 1, backend->addr);
    put(to, ",\"weight\":%u,\"effective\":%u,\"is\":[%d,%d,%d],", backend->weight, backend->effective,
        (backend->flags & LB_BACKEND_ELIGIBLE) != 0, (backend->flags & LB_BACKEND_HEALTHY) != 0,
        (backend->flags & LB_BACKEND_DRAINING) != 0);
    put(to, "\"in_flight\":%u,\"errors\":%u,\"ewma_ns\":%llu,\"ewma_at_ns\":%llu,",
        __atomic_load_n(&backend->stats->in_flight, __ATOMIC_RELAXED),
        __atomic_load_n(&backend->stats->consecutive_errors, __ATOMIC_RELAXED),
        NUMBER(__atomic_load_n(&backend->stats->ewma_latency_ns, __ATOMIC_RELAXED)),
        NUMBER(__atomic_load_n(&backend->stats->ewma_at_ns, __ATOMIC_RELAXED)));
    put(to, "\"word\":%llu,\"labels\":", NUMBER(__atomic_load_n(&backend->slot->word[0], __ATOMIC_RELAXED)));
    flush(host, out, to);
    if (backend->labels_json.len == 0) put(to, "null");
    else host->sink_write(out, backend->labels_json);
    put(to, "}");
    flush(host, out, to);
  }
  put(to, "]}");
}
static lb_status explain(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends, const lb_request *request,
                         lb_sink *out) {
  struct text text = {0};
  const lb_host *host = strategy->host;
  const char *parts[] = {"{\"picked\":", ",\"started\":", ",\"finished\":", ",\"probed\":"};
  const struct text *reports[] = {&strategy->picked, &strategy->started, &strategy->finished, &strategy->probed};
  lb_pick choice = {0};
  lock(strategy);
  for (int i = 0; i < 4; i++) {
    host->sink_write(out, (lb_str){(const uint8_t *)parts[i], strlen(parts[i])});
    host->sink_write(out, (lb_str){(const uint8_t *)reports[i]->at, reports[i]->len});
  }
  put(&text, ",\"outcomes\":[%llu,%llu,%llu,%llu,%llu,%llu],", NUMBER(strategy->outcomes[0]), NUMBER(strategy->outcomes[1]),
      NUMBER(strategy->outcomes[2]), NUMBER(strategy->outcomes[3]), NUMBER(strategy->outcomes[4]), NUMBER(strategy->outcomes[5]));
  put(&text, "\"counts\":{\"ticks\":%llu,\"tick_ns\":%llu,\"pickers\":%llu,\"imported\":%llu,\"starts\":%llu,\"finishes\":%llu,\"probes\":%llu,\"waits\":%llu},"
       "\"workers\":%llu,\"overlaps\":%llu,",
      NUMBER(strategy->ticks), NUMBER(strategy->tick_ns), NUMBER(strategy->pickers), NUMBER(strategy->imported),
      NUMBER(strategy->starts), NUMBER(strategy->finishes), NUMBER(strategy->probes), NUMBER(strategy->waits), NUMBER(strategy->workers), NUMBER(strategy->overlaps));
  unlock(strategy);
  put(&text, "\"host\":{\"is_right\":%d,\"n_workers\":%u},\"asked\":[%d,%d],\"list\":",
      host->size >= sizeof *host && host->abi_major == LB_ABI_MAJOR && host->abi_minor >= LB_ABI_MINOR &&
          host->request_size >= sizeof(lb_request) && host->pick_size >= sizeof(lb_pick) && host->stats_size >= sizeof(lb_stats) &&
          LB_HAS(backends, lb_backends, n_eligible) && backends->stride >= sizeof(lb_backend),
      host->n_workers, (request->flags & LB_REQ_DRY) != 0, request->worker == LB_WORKER_ANY);
  report_list(host, out, &text, backends);
  if (pick(strategy, picker, backends, request, &choice) == LB_OK) put(&text, ",\"backend\":%u}", choice.index);
  else put(&text, ",\"backend\":null}");
  flush(host, out, &text);
  return LB_OK;
}

static const lb_str HEADERS[] = {TEXT("X-Server-Id"), TEXT("x-none")};

static const lb_strategy_table TABLE = {
    .size = sizeof TABLE,
    .abi_major = LB_ABI_MAJOR,
    .abi_minor = LB_ABI_MINOR,
    .min_host_minor = 1,
    .flags = LB_F_WANTS_HASH | LB_F_WANTS_FINISH | LB_F_WANTS_ANSWER | LB_F_UNLOADABLE,
    .name = TEXT("reporter"),
    .version = TEXT("0.1.0"),
    .build = TEXT("C"),
    .state_schema = TEXT("reporter"),
    .state_version = 1,
    .tick_ms = 20,
    .strategy_new = strategy_new,
    .strategy_free = strategy_free,
    .picker_new = picker_new,
    .picker_free = picker_free,
    .pick = pick,
    .on_finish = on_finish,
    .state_export = state_export,
    .state_import = state_import,
    .tick = tick,
    .explain = explain,
    .on_start = on_start,
    .metrics = metrics,
    .response_headers = HEADERS,
    .n_response_headers = sizeof HEADERS / sizeof HEADERS[0],
    .body_bytes = 8,
    .on_probe = on_probe,
};

const lb_strategy_table *lb_strategy_entry_v1(const lb_host *host) {
  return LB_HAS(host, lb_host, stats_size) && host->request_size >= sizeof(lb_request) ? &TABLE : NULL;
}
