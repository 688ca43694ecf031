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
                    for (int j = 0; j < 2; j++) multiply_tile(sum[i][j], left[i], right[j][0], right[j][1]);
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
