/* sound.h: a correct table of a strategy, for fixtures that override single fields of it.
 * Its name is "broken". SOUND lists the fields of the table. `pick` always returns backend 0, eligible or not. */
#define LB_STRATEGY_IMPL
#include "lb_strategy.h"

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}
#define ENTRY(answer) \
  const lb_strategy_table *lb_strategy_entry_v1(const lb_host *host) { (void)host; return (answer); }

struct lb_strategy { char nothing; };
struct lb_picker { char nothing; };

static inline lb_status sound_new(const lb_host *host, lb_str config, lb_sink *err, lb_strategy **out) {
  static lb_strategy the_strategy;
  (void)host, (void)config, (void)err;
  *out = &the_strategy;
  return LB_OK;
}
static inline void sound_free(lb_strategy *strategy) { (void)strategy; }
static inline lb_status sound_picker_new(lb_strategy *strategy, const lb_backends *backends, lb_sink *err, lb_picker **out) {
  static lb_picker the_picker;
  (void)strategy, (void)backends, (void)err;
  *out = &the_picker;
  return LB_OK;
}
static inline void sound_picker_free(lb_picker *picker) { (void)picker; }
static inline lb_status sound_pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends,
                                   const lb_request *request, lb_pick *out) {
  (void)strategy, (void)picker, (void)backends, (void)request, (void)out;
  return LB_OK;
}

#define SOUND                                                                                      \
  .size = sizeof(lb_strategy_table), .abi_major = LB_ABI_MAJOR, .abi_minor = LB_ABI_MINOR,         \
  .name = TEXT("broken"), .version = TEXT("1"), .build = TEXT("C"), .strategy_new = sound_new,     \
  .strategy_free = sound_free, .picker_new = sound_picker_new, .picker_free = sound_picker_free,   \
  .pick = sound_pick
