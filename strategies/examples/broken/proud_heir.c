/* proud_heir.c: picks the first eligible backend. Only a plugin that was built with the same -DWORD and -DVERSION imports its state. The
 * word may be empty. Why it exists: reloads need two plugins of one schema that refuse each other's state. */
#include <string.h>

#include "sound.h"

#ifndef WORD
#define WORD "mine"
#endif
#ifndef VERSION
#define VERSION 1
#endif

static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends, const lb_request *request,
                      lb_pick *out) {
  (void)strategy, (void)picker;
  for (uint32_t i = 0; i < backends->len; i++) {
    int is_tried = 0;
    for (uint32_t t = 0; t < request->n_tried; t++) is_tried |= request->tried[t] == i;
    if ((LB_BACKEND(backends, i)->flags & LB_BACKEND_ELIGIBLE) && !is_tried) {
      out->index = i;
      return LB_OK;
    }
  }
  return LB_NONE;
}
static const lb_host *the_host;
static lb_status heir_new(const lb_host *host, lb_str config, lb_sink *err, lb_strategy **out) {
  the_host = host;
  return sound_new(host, config, err, out);
}
static lb_status heir_export(lb_strategy *strategy, lb_sink *out) {
  static const lb_str word = TEXT(WORD);
  (void)strategy;
  the_host->sink_write(out, word);
  return LB_OK;
}
static lb_status heir_import(lb_strategy *strategy, uint32_t version, lb_str bytes, lb_sink *err) {
  static const lb_str reason = TEXT("this is not " WORD);
  (void)strategy;
  if (version == VERSION && bytes.len == sizeof(WORD) - 1 && memcmp(bytes.ptr, WORD, bytes.len) == 0) return LB_OK;
  the_host->sink_write(err, reason);
  return LB_E_STATE;
}
static const lb_strategy_table TABLE = {
    SOUND, .strategy_new = heir_new, .pick = pick, .state_schema = TEXT("heir"), .state_version = VERSION,
    .state_export = heir_export, .state_import = heir_import};
ENTRY(&TABLE)
