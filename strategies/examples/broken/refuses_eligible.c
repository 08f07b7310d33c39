/* refuses_eligible.c: picker_new refuses each list with an eligible backend. Why it exists: a start may wait for the first checks of
 * backends, and then the list in which they come up is refused. */
#include "sound.h"

static lb_status picker_new(lb_strategy *strategy, const lb_backends *backends, lb_sink *err, lb_picker **out) {
  for (uint32_t i = 0; i < backends->len; i++)
    if (LB_BACKEND(backends, i)->flags & LB_BACKEND_ELIGIBLE) return LB_E_CONFIG;
  return sound_picker_new(strategy, backends, err, out);
}

static const lb_strategy_table TABLE = {SOUND, .picker_new = picker_new};
ENTRY(&TABLE)
