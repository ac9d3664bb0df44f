// Processes of one machine that wait for each other, asleep, at a count in memory they share.
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <climits>
#include <cstdint>

namespace {

// The count wraps around: what is ahead of what is told by the difference.
bool reached(uint32_t count, uint32_t target) { return static_cast<int32_t>(count - target) >= 0; }

void futex(uint32_t* count, int operation, uint32_t value, const timespec* limit) {
  syscall(SYS_futex, count, operation, value, limit, nullptr, 0);  // every way it can end has the caller look again
}

}  // namespace

// Counts the caller, whose writes before are seen by all who wait for `target`, and wakes them if it is the last.
extern "C" void latte_arrive(uint32_t* count, uint32_t target) {
  if (reached(__atomic_add_fetch(count, 1, __ATOMIC_ACQ_REL), target)) futex(count, FUTEX_WAKE, INT_MAX, nullptr);
}

// Sleeps until the count is `target`, about `seconds` at most; returns whether it is.
extern "C" int latte_await(uint32_t* count, uint32_t target, double seconds) {
  const auto whole = static_cast<time_t>(seconds);
  const timespec limit{whole, static_cast<long>((seconds - static_cast<double>(whole)) * 1e9)};
  uint32_t now = __atomic_load_n(count, __ATOMIC_ACQUIRE);
  if (!reached(now, target)) {
    futex(count, FUTEX_WAIT, now, &limit);
    now = __atomic_load_n(count, __ATOMIC_ACQUIRE);
  }
  return reached(now, target);
}
#endif
