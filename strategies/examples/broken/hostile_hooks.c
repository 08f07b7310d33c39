/* hostile_hooks.c: a fault in a hook that the builder thread calls. A digit in its options selects the fault:
 * 1 strategy_new succeeds without a result, 2 strategy_new fails without a reason, 3 strategy_new writes 64 MiB of reason,
 * 4 strategy_new writes a reason of an impossible length, 5 picker_new succeeds without a result, 6 picker_new fails with an unknown
 * status, 7 state_export, tick and state_import fail. */
#include "sound.h"

struct hostile { int way; const lb_host *host; };
static struct hostile INSTANCES[10];

static lb_status hostile_new(const lb_host *host, lb_str config, lb_sink *err, lb_strategy **out) {
  static const uint8_t noise[1 << 16];
  int way = 0;
  for (size_t i = 0; i < config.len; i++)
    if (config.ptr[i] >= '1' && config.ptr[i] <= '9') way = config.ptr[i] - '0';
  if (way == 1) return LB_OK;
  if (way == 2) return -77;
  if (way == 3) {
    lb_str text = {noise, sizeof noise};
    for (int i = 0; i < 1024; i++) host->sink_write(err, text);
    return LB_E_CONFIG;
  }
  if (way == 4) {
    lb_str text = {noise, 10}, impossible = {noise, SIZE_MAX - 4};
    host->sink_write(err, text);
    host->sink_write(err, impossible);
    return LB_E_CONFIG;
  }
  INSTANCES[way].way = way;
  INSTANCES[way].host = host;
  *out = (lb_strategy *)&INSTANCES[way];
  return LB_OK;
}
static lb_status hostile_picker_new(lb_strategy *strategy, const lb_backends *backends, lb_sink *err, lb_picker **out) {
  const struct hostile *hostile = (const struct hostile *)strategy;
  static const lb_str reason = TEXT("not today");
  if (hostile->way == 5) return LB_OK;
  if (hostile->way == 6) {
    hostile->host->sink_write(err, reason);
    return -42;
  }
  return sound_picker_new(strategy, backends, err, out);
}
static lb_status hostile_export(lb_strategy *strategy, lb_sink *out) { (void)strategy, (void)out; return -3; }
static lb_status hostile_import(lb_strategy *strategy, uint32_t version, lb_str bytes, lb_sink *err) {
  (void)strategy, (void)version, (void)bytes, (void)err;
  return -9;
}
static lb_status hostile_tick(lb_strategy *strategy, uint64_t now_ns) { (void)strategy; return now_ns == 1 ? LB_REBUILD : -9; }

static const lb_strategy_table TABLE = {
    SOUND, .strategy_new = hostile_new, .picker_new = hostile_picker_new, .state_schema = TEXT("none"), .tick_ms = 5,
    .state_export = hostile_export, .state_import = hostile_import, .tick = hostile_tick};
ENTRY(&TABLE)
