// Tensor cores: bf16 on its way from memory through shared memory into a warp's registers, and products there.
//
// Each instruction has a plain twin for the emulation. A warp's numbers are spread over its lanes, and
// all comments here write g = lane / 4, t = lane % 4.

// Two numbers as bf16, the first in the low half.
__device__ inline unsigned pack(float low, float high) {
#ifdef EMULATION
    bf16 halves[2];
    store(halves, low);
    store(halves + 1, high);
    return halves[0].bits | (unsigned)halves[1].bits << 16;
#else
    unsigned word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
#endif
}

// Two numbers side by side, on the boundary of both.
__device__ inline void store_pair(float *to, float first, float second) {
    *(float2 *)to = make_float2(first, second);
}
__device__ inline void store_pair(bf16 *to, float first, float second) {
    *(unsigned *)to = pack(first, second);
}

// C += A B for A [16][16], B [16][8], C [16][8]. A lane has of A the words (row g, column 2 t), (g + 8, 2 t),
// (g, 2 t + 8), (g + 8, 2 t + 8), of B the pairs of rows 2 t and 2 t + 8 in column g, and of C (g, 2 t),
// (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1).
__device__ inline void multiply_tile(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#ifdef EMULATION
    unsigned long long all[3][32];
    const unsigned long long mine[3] = {a[0] | (unsigned long long)a[1] << 32,
                                        a[2] | (unsigned long long)a[3] << 32,
                                        b0 | (unsigned long long)b1 << 32};
    for (int i = 0; i < 3; i++) memcpy(all[i], emulation_gather(mine[i], __LINE__), sizeof all[i]);
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    for (int i = 0; i < 4; i++) {
        const int row = g + i / 2 * 8, column = 2 * t + i % 2;
        for (int k = 0; k < 16; k++) {
            const int from = k % 8 / 2, half = k % 2 * 16;
            const unsigned x = (unsigned)(all[k / 8][row % 8 * 4 + from] >> row / 8 * 32);
            const unsigned y = (unsigned)(all[2][column * 4 + from] >> k / 8 * 32);
            c[i] += __uint_as_float(x >> half << 16) * __uint_as_float(y >> half << 16);
        }
    }
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
                 "{%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

#ifndef EMULATION
__device__ inline unsigned shared_address(const void *at) { return (unsigned)__cvta_generic_to_shared(at); }
#endif

// Four tiles of 8 x 8 from shared memory. Lane 8 i + r says where row r of tile i is, 16 bytes on a boundary
// of 16; every lane gets of each tile the word (row g, columns 2 t and 2 t + 1).
__device__ inline void load_tiles(unsigned (&to)[4], const bf16 *row) {
#ifdef EMULATION
    const unsigned long long *rows = emulation_gather((unsigned long long)row, __LINE__);
    const int lane = threadIdx.x % 32;
    for (int i = 0; i < 4; i++) memcpy(to + i, (const bf16 *)rows[8 * i + lane / 4] + 2 * (lane % 4), 4);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}

// The same, but each tile is transposed on the way: every lane gets (rows 2 t and 2 t + 1, column g).
__device__ inline void load_tiles_transposed(unsigned (&to)[4], const bf16 *row) {
#ifdef EMULATION
    const unsigned long long *rows = emulation_gather((unsigned long long)row, __LINE__);
    const int lane = threadIdx.x % 32;
    for (int i = 0; i < 4; i++) {
        const bf16 *upper = (const bf16 *)rows[8 * i + 2 * (lane % 4)];
        const bf16 *lower = (const bf16 *)rows[8 * i + 2 * (lane % 4) + 1];
        to[i] = upper[lane / 4].bits | (unsigned)lower[lane / 4].bits << 16;
    }
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}

// A thread's copies of 16 bytes from global to shared memory, which go on while it does something else.
// Those up to `close` are a group. `wait<N>` is over when all but the last N groups have arrived, those of
// this thread: others see them behind a barrier. The twin makes every mistake in time visible: what is copied
// comes not before it is waited for, and until then NaN stands where it goes.
class Copies {
#ifdef EMULATION
    static constexpr int MOST = 64;
    struct Copy {
        void *to;
        const void *from;
        int group;
    } under_way[MOST];
    int count = 0, group = 0;
#endif

  public:
    // 16 bytes, aligned so; zeros where not `inside`, and then `from` is not read.
    __device__ void copy(void *to, const void *from, bool inside) {
#ifdef EMULATION
        if (count == MOST) __builtin_trap();
        memset(to, 0xff, 16);
        under_way[count++] = {to, inside ? from : nullptr, group};
#else
        const int bytes = inside ? 16 : 0;
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                     "r"(bytes)
                     : "memory");
#endif
    }
    __device__ void close() {
#ifdef EMULATION
        group++;
#else
        asm volatile("cp.async.commit_group;" ::: "memory");
#endif
    }
    template <int N> __device__ void wait() {
#ifdef EMULATION
        int kept = 0;
        for (int i = 0; i < count; i++) {
            const Copy one = under_way[i];
            if (one.group + N >= group)
                under_way[kept++] = one;
            else if (one.from)
                memcpy(one.to, one.from, 16);
            else
                memset(one.to, 0, 16);
        }
        count = kept;
#else
        asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
    }
};
