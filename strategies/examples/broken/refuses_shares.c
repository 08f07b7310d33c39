/* refuses_shares.c: picker_new refuses each list with a backend that starts slowly. Why it exists: the ramp goes on after a refusal,
 * and lb must not ask for the same list again. It picks the last eligible backend that was not yet tried. */
#include "sound.h"

static lb_status picker_new(lb_strategy *strategy, const lb_backends *backends, lb_sink *err, lb_picker **out) {
  for (uint32_t i = 0; i < backends->len; i++)
    if (LB_BACKEND(backends, i)->effective < LB_BACKEND(backends, i)->weight * 1000) return LB_E_CONFIG;
  return sound_picker_new(strategy, backends, err, out);
}

static int is_tried(const lb_request *request, uint32_t index) {
  for (uint32_t i = 0; i < request->n_tried; i++)
    if (request->tried[i] == index) return 1;
  return 0;
}

static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends,
                      const lb_request *request, lb_pick *out) {
  (void)strategy, (void)picker;
  for (uint32_t i = backends->len; i-- > 0;) {
    if ((LB_BACKEND(backends, i)->flags & LB_BACKEND_ELIGIBLE) && !is_tried(request, i)) {
      out->index = i;
      return LB_OK;
    }
  }
  return LB_NONE;
}

static const lb_strategy_table TABLE = {SOUND, .picker_new = picker_new, .pick = pick};
ENTRY(&TABLE)
