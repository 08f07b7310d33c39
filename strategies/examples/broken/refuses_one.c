/* refuses_one.c: picker_new refuses each list with one backend. Why it exists: the removal of a backend can be refused. */
#include "sound.h"

static lb_status picker_new(lb_strategy *strategy, const lb_backends *backends, lb_sink *err, lb_picker **out) {
  return backends->len == 1 ? LB_E_CONFIG : sound_picker_new(strategy, backends, err, out);
}

static const lb_strategy_table TABLE = {SOUND, .picker_new = picker_new};
ENTRY(&TABLE)
