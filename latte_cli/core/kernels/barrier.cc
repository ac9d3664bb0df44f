// A barrier for processes of one machine, sleeping on a counter in shared memory.
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <climits>
#include <cstdint>

namespace {

// The count wraps around: compare values by their difference.
bool reached(uint32_t count, uint32_t target) { return static_cast<int32_t>(count - target) >= 0; }

void futex(uint32_t* count, int operation, uint32_t value, const timespec* limit) {
  syscall(SYS_futex, count, operation, value, limit, nullptr, 0);  // the caller checks again after any result
}

}  // namespace

// Counts the caller and wakes the waiters if it is the last. Its earlier writes are visible to all that wait for `target`.
extern "C" void latte_arrive(uint32_t* count, uint32_t target) {
  if (reached(__atomic_add_fetch(count, 1, __ATOMIC_ACQ_REL), target)) futex(count, FUTEX_WAKE, INT_MAX, nullptr);
}

// Sleeps until the count is `target`, at most about `seconds`; returns whether it is.
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
