/* remembers.c: keeps each key on the backend of its first request, which is random. For tests of learnt state.
 *
 * A table in the instance has (hash of the key, id of the backend), and the export has the same pairs. Word 0 of a slot counts the
 * sessions of its backend. -DVERSION=2 is another version of its state: it imports, and its slots begin at 0.
 * Invariant: an entry is written once, by compare-and-swap of the hash; its backend follows with release. */
#define LB_STRATEGY_IMPL
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lb_strategy.h"

#ifndef VERSION
#define VERSION 1
#endif
#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}
#define PLACES (1u << 16)

struct entry { _Atomic uint64_t hash, backend; };
struct lb_strategy { const lb_host *host; struct entry entries[PLACES]; };
struct lb_picker { char nothing; };
static const lb_picker THE_PICKER = {0};

static lb_status strategy_new(const lb_host *host, lb_str config, lb_sink *err, lb_strategy **out) {
  (void)config, (void)err;
  lb_strategy *strategy = calloc(1, sizeof *strategy);
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

/* The entry of the hash; `wanted` is stored if it has none. NULL: the table is full. */
static struct entry *entry_of(lb_strategy *strategy, uint64_t hash, uint64_t wanted) {
  if (hash == 0) hash = 1;
  for (uint32_t step = 0; step < PLACES; step++) {
    struct entry *entry = &strategy->entries[(hash + step) % PLACES];
    uint64_t found = 0;
    if (wanted != 0 && atomic_compare_exchange_strong(&entry->hash, &found, hash)) {
      atomic_store_explicit(&entry->backend, wanted, memory_order_release);
      return entry;
    }
    if (wanted == 0) found = atomic_load(&entry->hash);
    if (found == hash) return entry;
    if (found == 0) return NULL;
  }
  return NULL;
}

static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends,
                      const lb_request *request, lb_pick *out) {
  (void)picker;
  uint32_t n = lb_candidate_count(backends, request);
  if (n == 0) return LB_NONE;
  if (!(request->flags & LB_REQ_HASH)) return LB_FALLBACK;
  struct entry *known = entry_of(strategy, request->hash, 0);
  uint64_t id = known ? atomic_load_explicit(&known->backend, memory_order_acquire) : 0;
  for (uint32_t i = 0; i < n; i++) {
    uint32_t index = lb_candidate(backends, request, i);
    if (LB_BACKEND(backends, index)->id == id) {
      out->index = index;
      return LB_OK;
    }
  }
  out->index = lb_candidate(backends, request, (uint32_t)(((request->rand >> 32) * n) >> 32));
  if (known == NULL && !(request->flags & LB_REQ_DRY)) {
    const lb_backend *backend = LB_BACKEND(backends, out->index);
    entry_of(strategy, request->hash, backend->id);
    atomic_fetch_add((_Atomic uint64_t *)&backend->slot->word[0], 1);
  }
  return LB_OK;
}

static lb_status state_export(lb_strategy *strategy, lb_sink *out) {
  for (uint32_t i = 0; i < PLACES; i++) {
    uint64_t pair[2] = {atomic_load(&strategy->entries[i].hash), atomic_load(&strategy->entries[i].backend)};
    lb_str bytes = {(const uint8_t *)pair, sizeof pair};
    if (pair[0] != 0 && pair[1] != 0) strategy->host->sink_write(out, bytes);
  }
  return LB_OK;
}

static lb_status state_import(lb_strategy *strategy, uint32_t version, lb_str bytes, lb_sink *err) {
  static const lb_str reason = TEXT("this is no list of pairs");
  (void)version;
  if (bytes.len % 16 != 0) {
    strategy->host->sink_write(err, reason);
    return LB_E_STATE;
  }
  for (size_t at = 0; at < bytes.len; at += 16) {
    uint64_t pair[2];
    memcpy(pair, bytes.ptr + at, sizeof pair);
    entry_of(strategy, pair[0], pair[1]);
  }
  return LB_OK;
}

/* {"sessions":[...]}: word 0 of each slot. */
static lb_status explain(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends,
                         const lb_request *request, lb_sink *out) {
  char text[256];
  int at = snprintf(text, sizeof text, "{\"sessions\":[");
  (void)picker, (void)request;
  for (uint32_t i = 0; i < backends->len && i < 8; i++) {
    uint64_t sessions = atomic_load((_Atomic uint64_t *)&LB_BACKEND(backends, i)->slot->word[0]);
    at += snprintf(text + at, sizeof text - (size_t)at, "%s%llu", i ? "," : "", (unsigned long long)sessions);
  }
  at += snprintf(text + at, sizeof text - (size_t)at, "]}");
  lb_str words = {(const uint8_t *)text, (size_t)at};
  strategy->host->sink_write(out, words);
  return LB_OK;
}

static const lb_strategy_table TABLE = {
    .size = sizeof TABLE,
    .abi_major = LB_ABI_MAJOR,
    .abi_minor = LB_ABI_MINOR,
    .min_host_minor = 1,
    .flags = LB_F_WANTS_HASH,
    .name = TEXT("remembers"),
    .version = TEXT("0"),
    .build = TEXT("C"),
    .state_schema = TEXT("remembers"),
    .state_version = VERSION,
    .strategy_new = strategy_new,
    .strategy_free = strategy_free,
    .picker_new = picker_new,
    .picker_free = picker_free,
    .pick = pick,
    .state_export = state_export,
    .state_import = state_import,
    .explain = explain,
};

const lb_strategy_table *lb_strategy_entry_v1(const lb_host *host) {
  return host->request_size >= sizeof(lb_request) ? &TABLE : NULL;
}
