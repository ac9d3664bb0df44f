// A persistent thread pool for short kernels. Work is split into numbered tasks whose results do not depend on the thread, so a
// kernel's results are bit-identical for any number of threads.
#pragma once

#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <thread>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace latte {

// Flushes numbers below 1.2e-38 to zero while a task runs. This is a flag of each thread, which libraries set in some threads only,
// so that without this a task's result would depend on its thread.
class TinyIsZero {
#if defined(__SSE__)
 public:
  TinyIsZero() : before_(_mm_getcsr()) { _mm_setcsr(before_ | kFlushResults | kFlushOperands); }
  ~TinyIsZero() { _mm_setcsr(before_); }

 private:
  static constexpr unsigned kFlushResults = 0x8000, kFlushOperands = 0x0040;
  const unsigned before_;
#else
 public:
  TinyIsZero() {}
#endif
};

class Pool {
 public:
  // Never destroyed: its detached threads may still sleep in it when the process ends.
  static Pool& instance() {
    static Pool* pool = new Pool();
    return *pool;
  }

  int threads() const { return threads_; }

  void set_threads(int threads) {
    std::lock_guard<std::mutex> running(run_mutex_);
    threads_ = threads < 1 ? 1 : threads;
  }

  // Calls task(i) for every i in [0, tasks). A second caller, or a forked child (which has no workers), runs serially.
  void run(int64_t tasks, const std::function<void(int64_t)>& task) {
    std::unique_lock<std::mutex> running(run_mutex_, std::try_to_lock);
    if (tasks <= 1 || !running.owns_lock() || threads_ == 1 || getpid() != owner_) {
      const TinyIsZero flags;
      for (int64_t i = 0; i < tasks; ++i) task(i);
      return;
    }
    start_workers();
    next_.store(0, std::memory_order_relaxed);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      task_ = &task;
      tasks_ = tasks;
      seats_ = threads_ - 1;
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    work(task, tasks);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      task_ = nullptr;  // a worker that wakes only now finds nothing to join
    }
    spin_until([this] { return active_.load(std::memory_order_acquire) == 0; });
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return active_ == 0; });
  }

 private:
  Pool() : threads_(available_cores()), owner_(getpid()) {}

  static int available_cores() {
    if (const char* wanted = std::getenv("LATTE_KERNEL_THREADS")) {
      if (std::atoi(wanted) > 0) return std::atoi(wanted);
    }
    cpu_set_t cores;
    if (sched_getaffinity(0, sizeof(cores), &cores) == 0) return CPU_COUNT(&cores);
    return static_cast<int>(std::thread::hardware_concurrency());
  }

  void work(const std::function<void(int64_t)>& task, int64_t tasks) {
    const TinyIsZero flags;
    for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < tasks;) task(i);
  }

  void start_workers() {
    for (; workers_ < threads_ - 1; ++workers_) std::thread([this] { serve(); }).detach();
  }

  // Waits a moment without sleeping: the next kernel often comes sooner than a sleeping thread wakes up.
  template <class Condition>
  static void spin_until(const Condition& met) {
    const auto end = std::chrono::steady_clock::now() + kSpin;
    while (!met() && std::chrono::steady_clock::now() < end) {
#if defined(__SSE__)
      for (int i = 0; i < 16; ++i) _mm_pause();
#endif
    }
  }

  void serve() {
    uint64_t seen = 0;
    std::unique_lock<std::mutex> lock(mutex_, std::defer_lock);
    while (true) {
      spin_until([&] { return generation_.load(std::memory_order_acquire) != seen; });
      lock.lock();
      wake_.wait(lock, [&] { return generation_ != seen; });
      seen = generation_;
      if (task_ == nullptr || seats_ == 0) {
        lock.unlock();
        continue;
      }
      const auto* task = task_;
      const int64_t tasks = tasks_;
      --seats_;
      ++active_;
      lock.unlock();
      work(*task, tasks);
      lock.lock();
      if (--active_ == 0) done_.notify_one();
      lock.unlock();
    }
  }

  static constexpr std::chrono::microseconds kSpin{50};

  int threads_;
  const pid_t owner_;
  int workers_ = 0;
  std::mutex run_mutex_;  // one parallel kernel at a time
  std::mutex mutex_;      // guards the following members
  std::condition_variable wake_, done_;
  const std::function<void(int64_t)>* task_ = nullptr;
  int64_t tasks_ = 0;
  int seats_ = 0;
  std::atomic<int> active_{0};
  std::atomic<uint64_t> generation_{0};
  std::atomic<int64_t> next_{0};
};

// Waking a thread takes about 10 us: small work (`cost` in rough element operations) runs on the caller's thread.
inline void parallel_for(int64_t tasks, int64_t cost, const std::function<void(int64_t)>& task) {
  if (cost < 65536) {
    const TinyIsZero flags;
    for (int64_t i = 0; i < tasks; ++i) task(i);
  } else {
    Pool::instance().run(tasks, task);
  }
}

}  // namespace latte
