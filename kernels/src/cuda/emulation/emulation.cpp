// The kernels as C++, with what CUDA supplies to them: indices, barriers, shuffles, atomics, vectors.
//
// A thread of a block is a fiber that Rust switches to (emulation/block.rs): where a kernel waits, the
// fiber suspends. One fiber runs at a time and only a wait ends its turn, so atomics are plain
// arithmetic, and memory is sequentially consistent: a missing fence is not found here.

#define EMULATION 1
#include <math.h>
#include <string.h>

#include <utility>

#ifdef __SANITIZE_ADDRESS__
// The address sanitizer asks for these when it begins. It is linked behind Rust's own libraries, not before; and what
// a given up fiber held is no leak.
extern "C" const char *__asan_default_options() { return "verify_asan_link_order=0:detect_leaks=0"; }
#endif

struct EmulationIndex {
    unsigned x, y, z;
};
// Mirrored by `Thread` in block.rs.
struct EmulationThread {
    EmulationIndex thread, block, block_dim, grid_dim;
    unsigned char *shared;
};

static thread_local const EmulationThread *emulation_current;

extern "C" {
// Who runs from here on.
void emulation_enter(const EmulationThread *thread) { emulation_current = thread; }
// In Rust: suspends until all threads of the block (kind 0) or warp (kind 1) wait at this line.
void emulation_wait(unsigned kind, unsigned line);
// In Rust: gives `value`, waits for the warp, takes what the lane `from` gave.
unsigned long long emulation_exchange(unsigned long long value, unsigned from, unsigned line);
// In Rust: gives `value`, waits for the warp, shows what all 32 lanes gave, until the next but one exchange.
const unsigned long long *emulation_gather(unsigned long long value, unsigned line);
}

#define threadIdx (emulation_current->thread)
#define blockIdx (emulation_current->block)
#define blockDim (emulation_current->block_dim)
#define gridDim (emulation_current->grid_dim)
#define __device__
#define __syncthreads() emulation_wait(0, __LINE__)
#define __syncwarp() emulation_wait(1, __LINE__)
#define __threadfence()
#define __shfl_xor_sync(mask, value, offset)                                                                  \
    emulation_shuffle(value, (emulation_current->thread.x % 32) ^ (unsigned)(offset), __LINE__)

static inline unsigned char *emulation_shared() { return emulation_current->shared; }

template <class T> static inline T emulation_shuffle(T value, unsigned from, unsigned line) {
    unsigned long long bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = emulation_exchange(bits, from, line);
    memcpy(&value, &bits, sizeof value);
    return value;
}

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

static inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
static inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    return bits;
}

static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
static inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
static inline unsigned long long max(unsigned long long a, unsigned long long b) { return a > b ? a : b; }

static inline unsigned atomicAdd(unsigned *at, unsigned add) {
    const unsigned old = *at;
    *at = old + add;
    return old;
}
static inline unsigned long long atomicMax(unsigned long long *at, unsigned long long x) {
    const unsigned long long old = *at;
    if (x > old) *at = x;
    return old;
}
static inline unsigned long long atomicExch(unsigned long long *at, unsigned long long x) {
    const unsigned long long old = *at;
    *at = x;
    return old;
}

#include "../kernels/common.cu"
#include "../kernels/gemv.cu"
#include "../kernels/attend.cu"
#include "../kernels/tensor.cu"
#include "../kernels/prefill.cu"
#include "../kernels/skinny.cu"
#include "../kernels/attend_tiles.cu"
#include "../kernels/sample.cu"
#include "../kernels/stream.cu"
#include "../kernels/entries.cu"
#include "planted.cu"
#include "library.cu"

// ---- calling a kernel by its name ----

union EmulationSlot {
    void *pointer;
    int integer;
    float number;
};

template <class T> struct EmulationArgument; // the letter of a type, and how a slot holds it
template <class T> struct EmulationArgument<T *> {
    static constexpr char KIND = 'p';
    static T *of(const EmulationSlot &slot) { return (T *)slot.pointer; }
};
template <> struct EmulationArgument<int> {
    static constexpr char KIND = 'i';
    static int of(const EmulationSlot &slot) { return slot.integer; }
};
template <> struct EmulationArgument<float> {
    static constexpr char KIND = 'f';
    static float of(const EmulationSlot &slot) { return slot.number; }
};

template <class... A> struct EmulationKernel {
    static constexpr char KINDS[] = {EmulationArgument<A>::KIND..., 0};
};

template <auto F> struct EmulationCall;
template <class... A, void (*F)(A...)> struct EmulationCall<F> : EmulationKernel<A...> {
    template <size_t... I> static void with(const EmulationSlot *slots, std::index_sequence<I...>) {
        F(EmulationArgument<A>::of(slots[I])...);
    }
    static void call(const EmulationSlot *slots) { with(slots, std::index_sequence_for<A...>{}); }
};

// Mirrored by `Entry` in block.rs.
struct EmulationEntry {
    const char *name, *kinds;
    void (*call)(const EmulationSlot *);
};

#define ENTRY(f) {#f, EmulationCall<f>::KINDS, EmulationCall<f>::call}
#define ENTRY_ROWS(f) ENTRY(f##_r1), ENTRY(f##_r2), ENTRY(f##_r4), ENTRY(f##_r8)
#define ENTRY_MORE_ROWS(f) ENTRY(f##_r16), ENTRY(f##_r32), ENTRY(f##_r64)
#define ENTRIES(W)                                                                                            \
    ENTRY_ROWS(norm_qkv_##W), ENTRY_ROWS(project_##W), ENTRY_ROWS(norm_expand_##W),                           \
        ENTRY_ROWS(contract_##W), ENTRY_ROWS(norm_head_##W), ENTRY(embed_##W), ENTRY(attend_##W),             \
        ENTRY(layer_norm_##W), ENTRY(split_qkv_##W), ENTRY(library_product_##W), ENTRY(library_gelu_##W),     \
        ENTRY(library_residual_##W)
#define ENTRY_MATMULS(suffix)                                                                                 \
    ENTRY(matmul_qkv_##suffix), ENTRY(matmul_gelu_##suffix), ENTRY(matmul_residual_##suffix)

static const EmulationEntry entries[] = {
    ENTRIES(f32),
    ENTRIES(bf16),
    ENTRY_MATMULS(f32),
    ENTRY_MATMULS(bf16_t64x64),
    ENTRY_MATMULS(bf16_t128x64),
    ENTRY_MATMULS(bf16_t128x128),
    ENTRY(attend_tiles_f32),
    ENTRY(attend_tiles_bf16_t64x16),
    ENTRY(attend_tiles_bf16_t64x32),
    ENTRY(attend_tiles_bf16_t64x64),
    ENTRY(attend_tiles_bf16_t64x128),
    ENTRY(sample),
    ENTRY(stream),
    ENTRY(pack_norm),
    ENTRY(attend_packed_bf16),
    ENTRY(pack_parts),
    ENTRY_MORE_ROWS(skinny_qkv_bf16),
    ENTRY_MORE_ROWS(skinny_gelu_bf16),
    ENTRY_MORE_ROWS(skinny_residual_bf16),
    ENTRY_MORE_ROWS(skinny_head_bf16),
    ENTRY(planted_sums),
    ENTRY(planted_missing_barrier),
    ENTRY(planted_divergent_barrier),
    ENTRY(planted_missing_warp_barrier),
    ENTRY(planted_row_beyond),
    ENTRY(planted_shared_beyond),
    ENTRY(planted_read_beyond),
    ENTRY(planted_crooked_load),
    ENTRY(planted_unwritten_shared),
    ENTRY(planted_missing_wait),
    ENTRY(planted_early_copy),
};

extern "C" const EmulationEntry *emulation_find(const char *name) {
    for (const EmulationEntry &entry : entries)
        if (strcmp(entry.name, name) == 0) return &entry;
    return nullptr;
}
