// Causal attention of a prompt: many queries over the cache, their own keys and values included.

#define QUERIES 16
#define POSITIONS 32

// In f32.
// grid (length / 16, H, B), 128 threads: 16 queries of a head, 8 threads each, against 32 positions at a
// time; the score of query i is of positions up to base + i, base being what the cache held before.
// The online softmax again: m, l and the sums of a query live in its 8 threads.
// Shared memory: queries [16][D], weights [16][32], keys [32][D + 1], values [32][D].
__device__ inline void attend_tiles(const float *query, const float *keys, const float *values,
                                    const int *position, float *attended, int length, int heads,
                                    int head_width, int context) {
    SHARED_MEMORY(shared);
    const int d = head_width, head = blockIdx.y, first = blockIdx.x * QUERIES;
    float *q = (float *)shared, *weights = q + QUERIES * d, *k = weights + QUERIES * POSITIONS;
    float *v = k + POSITIONS * (d + 1);
    const long long sequence = blockIdx.z;
    const int mine = threadIdx.x / 8, part = threadIdx.x % 8;
    wait_for_predecessor();
    let_successor_start();
    const int base = position[sequence], limit = base + min(first + QUERIES, length);
    const long long cached = (sequence * heads + head) * (long long)context;
    for (int i = threadIdx.x; i < QUERIES * d; i += blockDim.x) {
        const int row = first + i / d;
        q[i] = row < length ? query[((sequence * length + row) * heads + head) * d + i % d] : 0.0f;
    }
    constexpr int MOST = 128 / 8;
    float sum[MOST], max_score = minus_infinity(), total = 0.0f;
#pragma unroll
    for (int j = 0; j < MOST; j++) sum[j] = 0.0f;
    for (int p0 = 0; p0 < limit; p0 += POSITIONS) {
        // Nobody may still read the last tile; the first time, the queries are waited for below.
        __syncthreads();
        for (int i = threadIdx.x; i < POSITIONS * d; i += blockDim.x) {
            const int p = i / d, c = i % d;
            const bool inside = p0 + p < limit;
            k[p * (d + 1) + c] = inside ? keys[(cached + p0 + p) * d + c] : 0.0f;
            v[i] = inside ? values[(cached + p0 + p) * d + c] : 0.0f;
        }
        __syncthreads();
        float score[POSITIONS / 8], larger = max_score;
#pragma unroll
        for (int i = 0; i < POSITIONS / 8; i++) {
            const int p = part + 8 * i;
            float t = 0.0f;
            for (int c = 0; c < d; c++) t += q[mine * d + c] * k[p * (d + 1) + c];
            score[i] = p0 + p <= base + first + mine ? t : minus_infinity();
            larger = fmaxf(larger, score[i]);
        }
#pragma unroll
        for (int offset = 4; offset > 0; offset /= 2)
            larger = fmaxf(larger, __shfl_xor_sync(0xffffffffu, larger, offset));
        const float correction = weight_of(max_score, larger);
        max_score = larger;
        float new_total = 0.0f;
#pragma unroll
        for (int i = 0; i < POSITIONS / 8; i++) {
            const float weight = weight_of(score[i], max_score);
            weights[mine * POSITIONS + part + 8 * i] = weight;
            new_total += weight;
        }
#pragma unroll
        for (int offset = 4; offset > 0; offset /= 2)
            new_total += __shfl_xor_sync(0xffffffffu, new_total, offset);
        total = total * correction + new_total;
        // The 8 threads of a query are of one warp.
        __syncwarp();
#pragma unroll
        for (int j = 0; j < MOST; j++) {
            if (8 * j >= d) break;
            float x = sum[j] * correction;
            for (int p = 0; p < POSITIONS; p++) x += weights[mine * POSITIONS + p] * v[p * d + part + 8 * j];
            sum[j] = x;
        }
        __syncwarp();
    }
    if (first + mine < length) {
        float *to = attended + ((sequence * length + first + mine) * heads + head) * d;
#pragma unroll
        for (int j = 0; j < MOST; j++)
            if (8 * j < d) to[part + 8 * j] = sum[j] / total;
    }
}

// The same with keys and values in bf16, on tensor cores (FlashAttention-2: Dao, 2023): queries, keys, values,
// weights of positions and the result are bf16, scores, their softmax and all sums f32.
// grid (length / 64, H, B), 128 threads: a warp has 16 queries of a head, against 64 positions at a time. Scores
// stay in the registers that the first product leaves them in, which is where the second takes its left side
// from. The next positions are copied meanwhile. Blocks with many positions start first; positions behind a
// warp's last query are skipped.
// D is the head's width or, with heads of 8, 16: what is added is zeros.
// Shared memory: keys and values [2][64][D + 8], so that the 8 rows of a tile lie in different banks.
#define TENSOR_QUERIES 64
#define TENSOR_POSITIONS 64

// `count` positions of 64, those behind them zeros, on their way to `to`.
template <int D>
__device__ inline void bring_positions(Copies &copies, bf16 *to, const bf16 *from, int count, int head_width) {
    constexpr int CHUNKS = D / 8, THREADS = 128;
#pragma unroll
    for (int j = 0; j < TENSOR_POSITIONS * CHUNKS / THREADS; j++) {
        const int i = j * THREADS + threadIdx.x, p = i / CHUNKS, c = i % CHUNKS * 8;
        copies.copy(to + p * (D + 8) + c, from + (long long)p * head_width + c, p < count && c < head_width);
    }
}

// One warp's 16 queries while it goes through the positions.
template <int D> struct QueryTile {
    static constexpr int PITCH = D + 8;
    unsigned query[D / 16][4];
    float sum[D / 8][4], most[2], total[2]; // of each lane's two rows; `total` is this lane's part

    // Rows `row` and row + 8 of a sequence's queries; those from `length` on are zeros.
    __device__ QueryTile(const float *from, int row, int length, int head_width, int stride) {
        const int t = threadIdx.x % 4;
#pragma unroll
        for (int k = 0; k < D / 16; k++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int r = row + i % 2 * 8, c = 16 * k + i / 2 * 8 + 2 * t;
                const bool inside = r < length && c < head_width;
                const float *pair = from + (long long)r * stride + c;
                query[k][i] = inside ? pack(pair[0], pair[1]) : 0u;
            }
#pragma unroll
        for (int j = 0; j < D / 8; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) sum[j][i] = 0.0f;
        most[0] = most[1] = minus_infinity();
        total[0] = total[1] = 0.0f;
    }

    // Positions p0 .. p0 + 64, of which row `row` sees those up to `last` and row + 8 up to last + 8.
    __device__ void meet(const bf16 *keys, const bf16 *values, int p0, int last) {
        constexpr int N = TENSOR_POSITIONS / 8;
        const int lane = threadIdx.x % 32, t = lane % 4;
        float score[N][4] = {};
#pragma unroll
        for (int n = 0; n < N; n += 2)
#pragma unroll
            for (int k = 0; k < D / 16; k++) {
                unsigned b[4];
                load_tiles(b, keys + (8 * n + lane / 16 * 8 + lane % 8) * PITCH + 16 * k + lane / 8 % 2 * 8);
                multiply_tile(score[n], query[k], b[0], b[1]);
                multiply_tile(score[n + 1], query[k], b[2], b[3]);
            }
        if (p0 + TENSOR_POSITIONS - 1 > last - lane / 4) { // the same for the whole warp: its first row's last
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    if (p0 + 8 * n + 2 * t + i % 2 > last + i / 2 * 8) score[n][i] = minus_infinity();
        }
        weigh(score);
#pragma unroll
        for (int k = 0; k < N / 2; k++) {
            const unsigned a[4] = {
                pack(score[2 * k][0], score[2 * k][1]), pack(score[2 * k][2], score[2 * k][3]),
                pack(score[2 * k + 1][0], score[2 * k + 1][1]), pack(score[2 * k + 1][2], score[2 * k + 1][3])};
#pragma unroll
            for (int j = 0; j < D / 8; j += 2) {
                unsigned b[4];
                load_tiles_transposed(b, values + (16 * k + lane % 16) * PITCH + 8 * j + lane / 16 * 8);
                multiply_tile(sum[j], a, b[0], b[1]);
                multiply_tile(sum[j + 1], a, b[2], b[3]);
            }
        }
    }

    // Scores become weights e^(score - most), and what was summed is scaled down to the new `most`. Every row
    // sees position 0, so `most` is a number from the first tile on.
    template <int N> __device__ void weigh(float (&score)[N][4]) {
        constexpr float LOG2_E = 1.44269504f;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float larger = most[h];
#pragma unroll
            for (int n = 0; n < N; n++) larger = fmaxf(larger, fmaxf(score[n][2 * h], score[n][2 * h + 1]));
            larger = fmaxf(larger, __shfl_xor_sync(0xffffffffu, larger, 1));
            larger = fmaxf(larger, __shfl_xor_sync(0xffffffffu, larger, 2));
            const float correction = power_of_two((most[h] - larger) * LOG2_E), shift = larger * LOG2_E;
            most[h] = larger;
            total[h] *= correction;
#pragma unroll
            for (int j = 0; j < D / 8; j++) {
                sum[j][2 * h] *= correction;
                sum[j][2 * h + 1] *= correction;
            }
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int i = 2 * h; i < 2 * h + 2; i++) {
                    score[n][i] = power_of_two(score[n][i] * LOG2_E - shift);
                    total[h] += score[n][i];
                }
        }
    }

    __device__ void finish(bf16 *to, int row, int length, int head_width, int stride) {
        const int t = threadIdx.x % 4;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float all = total[h] + __shfl_xor_sync(0xffffffffu, total[h], 1);
            all += __shfl_xor_sync(0xffffffffu, all, 2);
            const int r = row + 8 * h;
            if (r >= length) continue;
#pragma unroll
            for (int j = 0; j < D / 8; j++)
                if (8 * j < head_width)
                    store_pair(to + (long long)r * stride + 8 * j + 2 * t, sum[j][2 * h] / all,
                               sum[j][2 * h + 1] / all);
        }
    }
};

template <int D>
__device__ inline void attend_tiles(const float *query, const bf16 *keys, const bf16 *values,
                                    const int *position, bf16 *attended, int length, int heads,
                                    int head_width, int context) {
    SHARED_MEMORY(shared);
    constexpr int PART = TENSOR_POSITIONS * (D + 8);
    bf16 *tiles = (bf16 *)shared; // [2] keys, values
    const int first = (gridDim.x - 1 - blockIdx.x) * TENSOR_QUERIES, head = blockIdx.y;
    const int warp_first = first + (int)threadIdx.x / 32 * 16, row = warp_first + threadIdx.x % 32 / 4;
    const long long sequence = blockIdx.z, cached = (sequence * heads + head) * context * head_width;
    const long long at = (sequence * length * heads + head) * head_width;
    wait_for_predecessor();
    let_successor_start();
    const int base = position[sequence], limit = base + min(first + TENSOR_QUERIES, length);
    Copies copies;
    bring_positions<D>(copies, tiles, keys + cached, limit, head_width);
    bring_positions<D>(copies, tiles + PART, values + cached, limit, head_width);
    copies.close();
    QueryTile<D> mine(query + at, row, length, head_width, heads * head_width);
    for (int p0 = 0, stage = 0; p0 < limit; p0 += TENSOR_POSITIONS, stage ^= 1) {
        copies.wait<0>();
        // Now these positions are there, and nobody reads those before them any more.
        __syncthreads();
        const int next = p0 + TENSOR_POSITIONS;
        if (next < limit) {
            bf16 *to = tiles + (stage ^ 1) * 2 * PART;
            const long long from = cached + (long long)next * head_width;
            bring_positions<D>(copies, to, keys + from, limit - next, head_width);
            bring_positions<D>(copies, to + PART, values + from, limit - next, head_width);
            copies.close();
        }
        if (warp_first < length && p0 <= base + warp_first + 15) {
            const bf16 *tile = tiles + stage * 2 * PART;
            mine.meet(tile, tile + PART, p0, base + row);
        }
    }
    mine.finish(attended + at, row, length, head_width, heads * head_width);
}
