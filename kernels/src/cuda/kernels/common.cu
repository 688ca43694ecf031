// What all kernels share: the two kinds of weights, 16-byte loads, sums across a warp, inline PTX.
//
// The files of this folder are one text, joined in the order of source.rs, with no #include: no header is
// there for sure where NVRTC compiles it. The same text is compiled as C++ by the emulation, which
// defines EMULATION and supplies threadIdx, __syncthreads, shuffles and atomics; so inline PTX has a plain
// twin beside it, and shared memory is carved from one dynamic array.
//
// Shapes: B sequences, T positions, H heads of D = C / H, C width, F inner width, V token ids.
// Weights are [out][in]: an output's inputs lie side by side, and a warp reads them 16 bytes a lane.

// ---- numbers ----

// Upper half of an f32. Widening is a shift; rounding is to nearest even, NaN kept.
struct bf16 {
    unsigned short bits;
};

__device__ inline float widen(bf16 w) { return __uint_as_float((unsigned)w.bits << 16); }
__device__ inline float widen(float w) { return w; }

__device__ inline void store(float *to, float x) { *to = x; }
__device__ inline void store(bf16 *to, float x) {
    unsigned bits = __float_as_uint(x);
    bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    to->bits = (unsigned short)(nan ? bits >> 16 | 0x40u : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

// A 16-byte load holds N numbers.
template <class W> struct Vector;
template <> struct Vector<float> {
    static constexpr int N = 4;
    __device__ static void unpack(uint4 raw, float *w) {
        w[0] = __uint_as_float(raw.x);
        w[1] = __uint_as_float(raw.y);
        w[2] = __uint_as_float(raw.z);
        w[3] = __uint_as_float(raw.w);
    }
};
template <> struct Vector<bf16> {
    static constexpr int N = 8;
    // Little-endian: the first of each pair is the low half.
    __device__ static void unpack(uint4 raw, float *w) {
        const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            w[2 * i] = __uint_as_float(words[i] << 16);
            w[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
        }
    }
};

__device__ inline uint4 zero_vector() { return make_uint4(0u, 0u, 0u, 0u); }

// ---- memory ----

// Weights are read once a step: they shall not push the rows they are multiplied with out of L1.
__device__ inline uint4 load_stream(const uint4 *from) {
#ifdef EMULATION
    return *from;
#else
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(from));
    return v;
#endif
}

// Asks for a warp's next row of weights while the kernel before is still running.
template <class W> __device__ inline void prefetch_row(const W *row, int count) {
#ifdef EMULATION
    (void)row, (void)count;
#else
    const char *bytes = (const char *)row;
    for (int at = (threadIdx.x % 32) * 128; at < count * (int)sizeof(W); at += 32 * 128)
        asm volatile("prefetch.global.L2 [%0];" ::"l"(bytes + at));
#endif
}

// Programmatic dependent launch, on Hopper and later; without the launch attribute both do nothing.
// Every kernel waits before it first touches what another kernel wrote, and none leaves it out: then what
// the kernel before the one before wrote is complete too. Weights are written by no kernel.
__device__ inline void wait_for_predecessor() {
#if !defined(EMULATION) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ inline void let_successor_start() {
#if !defined(EMULATION) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

#ifdef EMULATION
#define SHARED_MEMORY(name) unsigned char *name = emulation_shared()
#else
#define SHARED_MEMORY(name) extern __shared__ __align__(16) unsigned char name[]
#endif

// ---- warps ----

__device__ inline float warp_sum(float x) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}

__device__ inline float minus_infinity() { return __uint_as_float(0xff800000u); }

// exp(x - max) where x may be -infinity, and max too: what has no weight stays without.
__device__ inline float weight_of(float x, float max) {
    return x == minus_infinity() ? 0.0f : expf(x - max);
}

// 2^x; 0 where that would be below 2^-126.
__device__ inline float power_of_two(float x) {
#ifdef EMULATION
    return exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

// An unsigned number that is ordered as the float is, -infinity first.
__device__ inline unsigned ordered(float x) {
    unsigned bits = __float_as_uint(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// ---- blocks ----

// Whether this block is the last of `all` to come here, and so sees what all of them wrote.
__device__ inline bool last_to_come(unsigned *arrived, unsigned all, unsigned *last) {
    // What this block wrote must be seen before it is counted.
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) *last = atomicAdd(arrived, 1u) == all - 1;
    __syncthreads();
    if (!*last) return false;
    __threadfence();
    return true;
}
