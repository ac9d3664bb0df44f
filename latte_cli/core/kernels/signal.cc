// Signals the end of a compiled function: its last operator increments a count, on which the caller sleeps.
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <unordered_map>

#include "operator.h"

namespace latte {
namespace {

struct Counts {
  std::mutex mutex;
  std::condition_variable changed;
  std::unordered_map<int64_t, int64_t> of;

  // Never destroyed: MindSpore's threads may outlive static objects.
  static Counts& instance() {
    static Counts* counts = new Counts();
    return *counts;
  }
};

}  // namespace
}  // namespace latte

using namespace latte;

// any tensor, channel (1) int64 -> the channel's count (1) int64
LATTE_KERNEL(LatteAnnounce) {
  Counts& counts = Counts::instance();
  const int64_t channel = *static_cast<const int64_t*>(params[1]);
  {
    std::lock_guard<std::mutex> lock(counts.mutex);
    *static_cast<int64_t*>(params[2]) = ++counts.of[channel];
  }
  counts.changed.notify_all();
  return 0;
}

// The count of a channel.
extern "C" int64_t latte_announced(int64_t channel) {
  Counts& counts = Counts::instance();
  std::lock_guard<std::mutex> lock(counts.mutex);
  return counts.of[channel];
}

// Sleeps until a channel's count exceeds `seen`, at most `seconds`; returns whether it does.
extern "C" int latte_wait(int64_t channel, int64_t seen, double seconds) {
  Counts& counts = Counts::instance();
  std::unique_lock<std::mutex> lock(counts.mutex);
  return counts.changed.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return counts.of[channel] > seen; });
}
