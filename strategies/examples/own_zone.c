/* own_zone.c: prefers the backends of one zone, and uses the others only if none of these is eligible. Plain C, no Rust.
 *
 * Why it exists: as a strategy in C that reads labels. own-zone/src/lib.rs is the same in Rust, with the same picks. Build it:
 *     cc -std=c11 -shared -fPIC -fvisibility=hidden -O2 -I ../kit/api/include -o libown_zone.so own_zone.c
 * Invariants: statics never change. Memory that is allocated here is freed here. No argument is kept after its call, except the host.
 * Labels are read once for each list, not in a pick. */
#define LB_STRATEGY_IMPL
#include <stdlib.h>
#include <string.h>

#include "lb_strategy.h"

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}

struct lb_strategy {
  const lb_host *host;
  size_t zone_len;
  uint8_t zone[]; /* the zone to prefer, with the escapes of JSON */
};
/* The indexes of the eligible backends: those of the zone, then the others. */
struct lb_picker {
  uint32_t n_near, n_all;
  uint32_t index[];
};

/* The text in the options {"zone":"TEXT"}. The host writes JSON without spaces. Returns 0 for other options. */
static int zone_of(lb_str config, lb_str *zone) {
  static const lb_str before = TEXT("{\"zone\":\""), after = TEXT("\"}");
  if (config.len < before.len + after.len || memcmp(config.ptr, before.ptr, before.len) != 0) return 0;
  zone->ptr = config.ptr + before.len;
  zone->len = config.len - before.len - after.len;
  if (memcmp(zone->ptr + zone->len, after.ptr, after.len) != 0) return 0;
  for (size_t i = 0; i < zone->len; i++) {
    if (zone->ptr[i] == '"') return 0; /* the text ends here, so there is another option */
    if (zone->ptr[i] == '\\') i++;
  }
  return 1;
}

/* Whether the labels have this zone, as a text or as a number. The host writes JSON without spaces, and a quote in a text has a backslash
 * before it. So the bytes of a key with its quotes and its colon are nowhere else. */
static int is_in_zone(lb_str labels, lb_str zone) {
  static const lb_str key = TEXT("\"zone\":");
  for (size_t at = 0; at + key.len < labels.len; at++) {
    if (memcmp(labels.ptr + at, key.ptr, key.len) != 0) continue;
    size_t value = at + key.len, quote = labels.ptr[value] == '"';
    if (value + quote + zone.len + quote >= labels.len) return 0; /* a comma or a brace follows */
    if (memcmp(labels.ptr + value + quote, zone.ptr, zone.len) != 0) return 0;
    const uint8_t *end = labels.ptr + value + quote + zone.len;
    return quote ? *end == '"' : *end == ',' || *end == '}';
  }
  return 0;
}

static lb_status strategy_new(const lb_host *host, lb_str config, lb_sink *err, lb_strategy **out) {
  lb_str zone;
  if (!zone_of(config, &zone)) {
    static const lb_str reason = TEXT("the only option is zone, a text: set zone = \"a\"");
    host->sink_write(err, reason);
    return LB_E_CONFIG;
  }
  lb_strategy *strategy = malloc(sizeof *strategy + zone.len);
  if (strategy == NULL) return LB_E_OTHER;
  strategy->host = host;
  strategy->zone_len = zone.len;
  memcpy(strategy->zone, zone.ptr, zone.len);
  *out = strategy;
  return LB_OK;
}

static void strategy_free(lb_strategy *strategy) { free(strategy); }

static lb_status picker_new(lb_strategy *strategy, const lb_backends *backends, lb_sink *err, lb_picker **out) {
  const lb_str zone = {strategy->zone, strategy->zone_len};
  lb_picker *picker = malloc(sizeof *picker + backends->n_eligible * sizeof(uint32_t));
  (void)err;
  if (picker == NULL) return LB_E_OTHER;
  picker->n_near = picker->n_all = 0;
  for (int is_near = 1; is_near >= 0; is_near--) {
    for (uint32_t i = 0; i < backends->n_eligible; i++) {
      uint32_t index = backends->eligible[i];
      if (is_in_zone(LB_BACKEND(backends, index)->labels_json, zone) == is_near) picker->index[picker->n_all++] = index;
    }
    if (is_near) picker->n_near = picker->n_all;
  }
  *out = picker;
  return LB_OK;
}

static void picker_free(lb_picker *picker) { free(picker); }

static int was_tried(const lb_request *request, uint32_t index) {
  for (uint32_t i = 0; i < request->n_tried; i++)
    if (request->tried[i] == index) return 1;
  return 0;
}

/* One of n indexes at random, by the high half of random x n. If it was tried before, the next one that was not. Returns 0 if there is none. */
static int draw(const uint32_t *indexes, uint32_t n, const lb_request *request, uint32_t *out) {
  uint64_t high = request->rand >> 32, low = request->rand & 0xFFFFFFFFu;
  uint64_t drawn = (high * n + (low * n >> 32)) >> 32;
  for (uint32_t i = 0; i < n; i++) {
    uint32_t index = indexes[(drawn + i) % n];
    if (was_tried(request, index)) continue;
    *out = index;
    return 1;
  }
  return 0;
}

static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends,
                      const lb_request *request, lb_pick *out) {
  (void)strategy, (void)backends;
  if (draw(picker->index, picker->n_near, request, &out->index)) return LB_OK;
  if (draw(picker->index + picker->n_near, picker->n_all - picker->n_near, request, &out->index)) return LB_OK;
  return LB_NONE;
}

static const lb_strategy_table TABLE = {
    .size = sizeof TABLE,
    .abi_major = LB_ABI_MAJOR,
    .abi_minor = LB_ABI_MINOR,
    .min_host_minor = 1, /* labels_json and eligible */
    .name = TEXT("own_zone"),
    .version = TEXT("0.1.0"),
    .build = TEXT("C"),
    .strategy_new = strategy_new,
    .strategy_free = strategy_free,
    .picker_new = picker_new,
    .picker_free = picker_free,
    .pick = pick,
};

const lb_strategy_table *lb_strategy_entry_v1(const lb_host *host) {
  return host->request_size >= sizeof(lb_request) ? &TABLE : NULL;
}
