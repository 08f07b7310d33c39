/* one_rule.c: a round robin over the candidates that breaks exactly one rule, selected with -DBREAKS_...
 *
 * Why it exists: the score card must report each broken rule in the right row. Invariant: without -D no rule is broken. */
#define LB_STRATEGY_IMPL
#include <stdlib.h>

#include "lb_strategy.h"

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}

struct lb_strategy { uint64_t turn[4]; };
struct lb_picker { char nothing; };
static const lb_picker THE_PICKER = {0};
#ifdef BREAKS_INSTANCES
static uint64_t shared_turn;
#endif
#ifdef BREAKS_MEMORY
void *volatile lost;
#endif

static lb_status strategy_new(const lb_host *host, lb_str config, lb_sink *err, lb_strategy **out) {
  (void)host, (void)config, (void)err;
  *out = calloc(1, sizeof **out);
  return *out == NULL ? LB_E_OTHER : LB_OK;
}
static void strategy_free(lb_strategy *strategy) { free(strategy); }
static lb_status picker_new(lb_strategy *strategy, const lb_backends *backends, lb_sink *err, lb_picker **out) {
  (void)strategy, (void)backends, (void)err;
  *out = (lb_picker *)&THE_PICKER;
  return LB_OK;
}
static void picker_free(lb_picker *picker) { (void)picker; }

static int may_serve(const lb_backends *backends, const lb_request *request, uint32_t index) {
#ifndef BREAKS_ELIGIBILITY
  if (!(LB_BACKEND(backends, index)->flags & LB_BACKEND_ELIGIBLE)) return 0;
#endif
  for (uint32_t i = 0; i < request->n_tried; i++)
    if (request->tried[i] == index) return 0;
  return 1;
}

static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends,
                      const lb_request *request, lb_pick *out) {
  uint32_t n = 0, left;
  uint64_t *turn = &strategy->turn[0];
  (void)picker, (void)turn;
#ifdef BREAKS_INSTANCES
  turn = &shared_turn;
#endif
#ifdef BREAKS_THREADS
  turn = &strategy->turn[request->worker % 4]; /* each worker has its own turns, so counts are even for one worker and uneven for all */
#endif
#ifdef BREAKS_MEMORY
  lost = malloc(64);
  if (lost != NULL) *(char *)lost = 1;
#endif
  for (uint32_t i = 0; i < backends->len; i++) n += may_serve(backends, request, i);
  if (n == 0) return LB_NONE;
#ifdef WAITS_WHEN_IDLE
  if (request->rand % 4 == 0) return LB_WAIT; /* no rule is broken: the card only warns */
#endif
#ifdef BREAKS_BY_A_CRASH
  if (request->n_tried > 0) abort();
#endif
#ifdef BREAKS_BY_A_HANG
  while (request->n_tried > 0) __atomic_fetch_add(turn, 1, __ATOMIC_RELAXED);
#endif
#if defined BREAKS_FAIRNESS
  left = 0;
#elif defined BREAKS_CONSISTENCY
  left = (uint32_t)(((request->rand >> 32) * n) >> 32);
#elif defined BREAKS_DRY
  left = (uint32_t)(__atomic_fetch_add(turn, 1, __ATOMIC_RELAXED) % n);
#else
  left = (uint32_t)((request->flags & LB_REQ_DRY ? __atomic_load_n(turn, __ATOMIC_RELAXED)
                                                 : __atomic_fetch_add(turn, 1, __ATOMIC_RELAXED)) % n);
#endif
  for (uint32_t i = 0; i < backends->len; i++) {
    if (may_serve(backends, request, i) && left-- == 0) {
      out->index = i;
      break;
    }
  }
  return LB_OK;
}

static const lb_strategy_table TABLE = {
    .size = sizeof TABLE,
    .abi_major = LB_ABI_MAJOR,
    .abi_minor = LB_ABI_MINOR,
    .name = TEXT("one_rule"),
    .version = TEXT("1"),
    .build = TEXT("C"),
#ifdef BREAKS_CONSISTENCY
    .flags = LB_F_WANTS_HASH,
    .expectation = TEXT("{\"balance\":\"multinomial\",\"consistent\":true}"),
#else
    .expectation = TEXT("{\"balance\":\"exact\"}"),
#endif
    .strategy_new = strategy_new,
    .strategy_free = strategy_free,
    .picker_new = picker_new,
    .picker_free = picker_free,
    .pick = pick,
};

const lb_strategy_table *lb_strategy_entry_v1(const lb_host *host) {
  return host->request_size >= sizeof(lb_request) ? &TABLE : NULL;
}
