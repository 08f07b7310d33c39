/* refuses_labels.c: picker_new refuses each list in which a backend has labels. `pick` is correct. Why it exists: the trial must show labels to a plugin. */
#include "sound.h"

static lb_status picker_new(lb_strategy *strategy, const lb_backends *backends, lb_sink *err, lb_picker **out) {
  for (uint32_t i = 0; i < backends->len; i++)
    if (LB_BACKEND(backends, i)->labels_json.len > 0) return LB_E_CONFIG;
  return sound_picker_new(strategy, backends, err, out);
}
static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends, const lb_request *request, lb_pick *out) {
  (void)strategy, (void)picker;
  if (lb_candidate_count(backends, request) == 0) return LB_NONE;
  out->index = lb_candidate(backends, request, 0);
  return LB_OK;
}

static const lb_strategy_table TABLE = {SOUND, .picker_new = picker_new, .pick = pick};
ENTRY(&TABLE)
