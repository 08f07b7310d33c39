/* refuses_shares.c: picker_new refuses each list with a backend that starts slowly. Why it exists: the ramp goes on after a refusal,
 * and lb must not ask for the same list again. */
#include "sound.h"

static lb_status picker_new(lb_strategy *strategy, const lb_backends *backends, lb_sink *err, lb_picker **out) {
  for (uint32_t i = 0; i < backends->len; i++)
    if (LB_BACKEND(backends, i)->effective < LB_BACKEND(backends, i)->weight * 1000) return LB_E_CONFIG;
  return sound_picker_new(strategy, backends, err, out);
}

static const lb_strategy_table TABLE = {SOUND, .picker_new = picker_new};
ENTRY(&TABLE)
