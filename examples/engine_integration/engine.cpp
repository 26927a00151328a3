// SPDX-License-Identifier: MIT
// The engine's own code: no exceptions, and no idea of magr.
#include "engine.h"

#include <condition_variable>
#include <mutex>
#include <new>
#include <thread>

size_t engine_tensor_bytes(const engine_tensor* t) {
    switch (t->type) {
        case ENGINE_F16:
        case ENGINE_BF16: return t->rows * t->cols * 2;
        case ENGINE_Q4_0: return t->rows * (t->cols / ENGINE_Q4_0_BLOCK * ENGINE_Q4_0_BLOCK_BYTES);
        case ENGINE_GPTQ: break;
    }
    const size_t groups = t->cols / ENGINE_GPTQ_GROUP;
    return t->rows * t->cols / 2 + groups * t->rows / 2 + groups * t->rows * 2;  // codes, zero points, scales
}

struct engine_pool {
    std::mutex mutex;
    std::condition_variable begins, ends;
    std::thread* threads = nullptr;
    size_t thread_count = 1;  // with the caller's

    // the loop that is running; all under the mutex, but `task` and `data` do not change while threads are busy
    engine_task task = nullptr;
    void* data = nullptr;
    size_t count = 0, next = 0, busy = 0, loop = 0;
    bool quits = false;

    void work(size_t thread) {
        std::unique_lock<std::mutex> lock(mutex);
        while (next < count) {
            const size_t index = next++;
            lock.unlock();
            task(data, index, thread);
            lock.lock();
        }
    }

    void live(size_t thread) {
        size_t seen = 0;
        for (;;) {
            {
                std::unique_lock<std::mutex> lock(mutex);
                begins.wait(lock, [&] { return quits || loop != seen; });
                if (quits) return;
                seen = loop;
            }
            work(thread);
            const std::lock_guard<std::mutex> lock(mutex);
            if (--busy == 0) ends.notify_one();
        }
    }
};

engine_pool* engine_pool_new(size_t threads) {
    auto* const pool = new engine_pool;
    pool->thread_count = threads;
    pool->threads = new std::thread[threads];
    for (size_t k = 1; k < threads; ++k) pool->threads[k] = std::thread([pool, k] { pool->live(k); });
    return pool;
}

void engine_pool_free(engine_pool* pool) {
    {
        const std::lock_guard<std::mutex> lock(pool->mutex);
        pool->quits = true;
    }
    pool->begins.notify_all();
    for (size_t k = 1; k < pool->thread_count; ++k) pool->threads[k].join();
    delete[] pool->threads;
    delete pool;
}

size_t engine_pool_threads(const engine_pool* pool) { return pool->thread_count; }

void engine_parallel_for(void* context, size_t count, engine_task task, void* data) {
    auto& pool = *static_cast<engine_pool*>(context);
    {
        const std::lock_guard<std::mutex> lock(pool.mutex);
        pool.task = task;
        pool.data = data;
        pool.count = count;
        pool.next = 0;
        pool.busy = pool.thread_count - 1;
        ++pool.loop;
    }
    pool.begins.notify_all();
    pool.work(0);
    std::unique_lock<std::mutex> lock(pool.mutex);
    pool.ends.wait(lock, [&] { return pool.busy == 0; });
}
