// Prompts: many rows at once, so products are worth tiles in shared memory.
//
// Weights in f32 are multiplied in f32. With weights in bf16 the products are those of the tensor cores: rows
// are rounded to bf16 as well, sums are f32.

// y = (x - mean) / sqrt(var + epsilon) gain + bias of one row, handed to `put` one by one. A block of 128
// threads, which has waited for nobody yet. Shared memory: two sums a warp.
template <class Put>
__device__ inline void norm_row(const float *x, const float *gain, const float *bias, int width, float epsilon,
                                const Put &put) {
    SHARED_MEMORY(shared);
    float *sums = (float *)shared;
    const int warps = blockDim.x / 32, warp = threadIdx.x / 32;
    wait_for_predecessor();
    let_successor_start();
    float sum = 0.0f;
    for (int c = threadIdx.x; c < width; c += blockDim.x) sum += x[c];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) sums[warp] = sum;
    __syncthreads();
    float mean = 0.0f;
    for (int w = 0; w < warps; w++) mean += sums[w];
    mean /= width;
    float squares = 0.0f;
    for (int c = threadIdx.x; c < width; c += blockDim.x) squares += (x[c] - mean) * (x[c] - mean);
    squares = warp_sum(squares);
    if (threadIdx.x % 32 == 0) sums[warps + warp] = squares;
    __syncthreads();
    float variance = 0.0f;
    for (int w = 0; w < warps; w++) variance += sums[warps + w];
    const float scale = 1.0f / sqrtf(variance / width + epsilon);
    for (int c = threadIdx.x; c < width; c += blockDim.x)
        put(c, (x[c] - mean) * scale * gain[c] + bias[c]);
}

struct PutRow {
    float *y;
    __device__ void operator()(int c, float y_c) const { y[c] = y_c; }
};

// grid (rows).
__device__ inline void layer_norm_row(const float *residual, const float *gain, const float *bias, float *normed,
                                      int width, float epsilon) {
    const PutRow put = {normed + (long long)blockIdx.x * width};
    norm_row(residual + (long long)blockIdx.x * width, gain, bias, width, epsilon, put);
}

#define TILE 64
#define TILE_DEPTH 16
#define TILE_PITCH (TILE + 4)

// Y[r][o] = X[r] . W[o], handed to `end` one by one. X [rows][K] f32, W [N][K].
// grid (N / 64, rows / 64), 256 threads: a block makes a tile of 64 x 64, a thread 4 x 4 of it, from
// 16 inputs at a time. Both sides lie in shared memory by input, so that a thread's 4 are one load.
// Shared memory: a tile of either side, [16][68].
template <class End>
__device__ inline void matmul(const float *x, const float *weights, int rows, int inputs, int outputs,
                              const End &end) {
    SHARED_MEMORY(shared);
    float *a = (float *)shared, *b = a + TILE_DEPTH * TILE_PITCH;
    const int first_row = blockIdx.y * TILE, first_output = blockIdx.x * TILE;
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    wait_for_predecessor();
    let_successor_start();
    float sum[4][4] = {};
    for (int k0 = 0; k0 < inputs; k0 += TILE_DEPTH) {
        {
            const int row = threadIdx.x / 4, k = threadIdx.x % 4 * 4;
            const bool inside = first_row + row < rows && k0 + k < inputs;
            const float *from = x + (long long)(first_row + row) * inputs + k0 + k;
            const float4 v = inside ? *(const float4 *)from : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            a[k * TILE_PITCH + row] = v.x;
            a[(k + 1) * TILE_PITCH + row] = v.y;
            a[(k + 2) * TILE_PITCH + row] = v.z;
            a[(k + 3) * TILE_PITCH + row] = v.w;
        }
        {
            const int output = threadIdx.x / 4, k = threadIdx.x % 4 * 4;
            const bool inside = first_output + output < outputs && k0 + k < inputs;
            const float *from = weights + (long long)(first_output + output) * inputs + k0 + k;
            const float4 v = inside ? *(const float4 *)from : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            b[k * TILE_PITCH + output] = v.x;
            b[(k + 1) * TILE_PITCH + output] = v.y;
            b[(k + 2) * TILE_PITCH + output] = v.z;
            b[(k + 3) * TILE_PITCH + output] = v.w;
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < TILE_DEPTH; k++) {
            const float4 u = *(const float4 *)(a + k * TILE_PITCH + 4 * ty);
            const float4 v = *(const float4 *)(b + k * TILE_PITCH + 4 * tx);
            const float us[4] = {u.x, u.y, u.z, u.w}, vs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) sum[i][j] += us[i] * vs[j];
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int row = first_row + 4 * ty + i, output = first_output + 4 * tx + j;
            if (row < rows && output < outputs) end(row, output, sum[i][j]);
        }
}

// Inputs of a stage, and words of two bf16 from one row of shared memory to the next: 4 more than a row has,
// so that the 8 rows x 4 words that a warp reads at once lie in 32 banks.
#define TENSOR_DEPTH 32
#define TENSOR_PITCH (TENSOR_DEPTH / 2 + 4)

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

// C += A B for A [16][16], B [16][8], C [16][8], spread over a warp. With g = lane / 4 and t = lane % 4 a lane
// has of A the words (row g, column 2 t), (g + 8, 2 t), (g, 2 t + 8), (g + 8, 2 t + 8), of B the pairs of rows
// 2 t and 2 t + 8 in column g, and of C (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1).
__device__ inline void multiply_tile(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef EMULATION
    unsigned long long all[3][32];
    const unsigned long long mine[3] = {a[0] | (unsigned long long)a[1] << 32,
                                        a[2] | (unsigned long long)a[3] << 32,
                                        b[0] | (unsigned long long)b[1] << 32};
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
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// The same product with weights in bf16, on tensor cores: rows are rounded to bf16 too, products are exact,
// sums f32. grid (N / 64, rows / 64), 256 threads: 8 warps of 32 rows x 16 outputs each, 32 inputs at a
// time, of which the next are on their way while these are multiplied.
// Shared memory: a tile of either side, [64][20] words.
template <class End>
__device__ inline void matmul(const float *x, const bf16 *weights, int rows, int inputs, int outputs,
                              const End &end) {
    SHARED_MEMORY(shared);
    unsigned *a = (unsigned *)shared, *b = a + TILE * TENSOR_PITCH;
    const int first_row = blockIdx.y * TILE, first_output = blockIdx.x * TILE;
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const int warp_row = warp / 4 * 32, warp_output = warp % 4 * 16;
    // What this thread brings: 4 inputs of two rows, 8 of an output.
    const int row = threadIdx.x / 8, k_row = threadIdx.x % 8 * 4;
    const int output = threadIdx.x / 4, k_output = threadIdx.x % 4 * 8;
    const bool has_output = first_output + output < outputs;
    const float *row_from = x + (long long)(first_row + row) * inputs + k_row;
    const bf16 *output_from = weights + (long long)(first_output + output) * inputs + k_output;
    wait_for_predecessor();
    let_successor_start();
    float4 next_rows[2];
    uint4 next_output;
    float sum[2][2][4] = {};
    for (int k0 = -TENSOR_DEPTH; k0 < inputs; k0 += TENSOR_DEPTH) {
        const int k1 = k0 + TENSOR_DEPTH;
        if (k1 < inputs) {
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const bool inside = first_row + row + 32 * i < rows && k1 + k_row < inputs;
                next_rows[i] = inside ? *(const float4 *)(row_from + 32ll * i * inputs + k1)
                                      : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            }
            next_output =
                has_output && k1 + k_output < inputs ? *(const uint4 *)(output_from + k1) : zero_vector();
        }
        if (k0 >= 0) {
#pragma unroll
            for (int k = 0; k < TENSOR_DEPTH / 2; k += 8) {
                unsigned left[2][4], right[2][2];
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const unsigned *from = a + (warp_row + 16 * i + g) * TENSOR_PITCH + k + t;
                    left[i][0] = from[0];
                    left[i][1] = from[8 * TENSOR_PITCH];
                    left[i][2] = from[4];
                    left[i][3] = from[8 * TENSOR_PITCH + 4];
                    const unsigned *of = b + (warp_output + 8 * i + g) * TENSOR_PITCH + k + t;
                    right[i][0] = of[0];
                    right[i][1] = of[4];
                }
#pragma unroll
                for (int i = 0; i < 2; i++)
#pragma unroll
                    for (int j = 0; j < 2; j++) multiply_tile(sum[i][j], left[i], right[j]);
            }
        }
        __syncthreads();
        if (k1 < inputs) {
#pragma unroll
            for (int i = 0; i < 2; i++) {
                unsigned *to = a + (row + 32 * i) * TENSOR_PITCH + k_row / 2;
                to[0] = pack(next_rows[i].x, next_rows[i].y);
                to[1] = pack(next_rows[i].z, next_rows[i].w);
            }
            *(uint4 *)(b + output * TENSOR_PITCH + k_output / 2) = next_output;
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
            for (int n = 0; n < 4; n++) {
                const int to_row = first_row + warp_row + 16 * i + g + n / 2 * 8;
                const int to_output = first_output + warp_output + 8 * j + 2 * t + n % 2;
                if (to_row < rows && to_output < outputs) end(to_row, to_output, sum[i][j][n]);
            }
}

template <class W> struct MatmulEndQkv {
    const float *bias;
    const int *position;
    float *query;
    W *keys, *values;
    int length, width, heads, context;
    float scale;
    __device__ void operator()(int row, int output, float sum) const {
        const int sequence = row / length;
        store_qkv(sum + bias[output], output, row, sequence, position[sequence] + row % length, query, keys,
                  values, width, heads, context, scale);
    }
};

// Row r is token r % length of sequence r / length.
template <class W>
__device__ inline void matmul_qkv(const float *x, const W *weights, const float *bias, const int *position,
                                  float *query, W *keys, W *values, int rows, int length, int width,
                                  int heads, int context, float scale) {
    const MatmulEndQkv<W> end = {bias, position, query, keys, values, length, width, heads, context, scale};
    matmul(x, weights, rows, width, 3 * width, end);
}

struct MatmulEndGelu {
    const float *bias;
    float *y;
    int outputs;
    __device__ void operator()(int row, int output, float sum) const {
        y[(long long)row * outputs + output] = gelu(sum + bias[output]);
    }
};

template <class W>
__device__ inline void matmul_gelu(const float *x, const W *weights, const float *bias, float *y, int rows,
                                   int inputs, int outputs) {
    const MatmulEndGelu end = {bias, y, outputs};
    matmul(x, weights, rows, inputs, outputs, end);
}

struct MatmulEndAdd {
    const float *bias;
    float *y;
    int outputs;
    __device__ void operator()(int row, int output, float sum) const {
        y[(long long)row * outputs + output] += sum + bias[output];
    }
};

template <class W>
__device__ inline void matmul_residual(const float *x, const W *weights, const float *bias, float *y, int rows,
                                       int inputs, int outputs) {
    const MatmulEndAdd end = {bias, y, outputs};
    matmul(x, weights, rows, inputs, outputs, end);
}

#define QUERIES 16
#define POSITIONS 32

// Causal attention of a prompt's queries over the cache, its own keys and values included.
// grid (length / 16, H, B), 128 threads: 16 queries of a head, 8 threads each, against 32 positions at a
// time; the score of query i is of positions up to base + i, base being what the cache held before.
// The online softmax again: m, l and the sums of a query live in its 8 threads.
// Shared memory: queries [16][D], weights [16][32], keys [32][D + 1], values [32][D].
template <class W>
__device__ inline void attend_tiles(const float *query, const W *keys, const W *values, const int *position,
                                    float *attended, int length, int heads, int head_width, int context) {
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
            k[p * (d + 1) + c] = inside ? widen(keys[(cached + p0 + p) * d + c]) : 0.0f;
            v[i] = inside ? widen(values[(cached + p0 + p) * d + c]) : 0.0f;
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
