// Prompts: many rows at once, so products are worth tiles in shared memory.
//
// Weights in f32 are multiplied in f32. With weights in bf16 the products are those of the tensor cores: what is
// multiplied is bf16 as well (T), and written so by whoever makes it, sums are f32.

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

template <class T> struct PutRow {
    T *y;
    __device__ void operator()(int c, float y_c) const { store(y + c, y_c); }
};

// grid (rows).
template <class T>
__device__ inline void layer_norm_row(const float *residual, const float *gain, const float *bias, T *normed,
                                      int width, float epsilon) {
    const PutRow<T> put = {normed + (long long)blockIdx.x * width};
    norm_row(residual + (long long)blockIdx.x * width, gain, bias, width, epsilon, put);
}

#define TILE 64
#define TILE_DEPTH 16
#define TILE_PITCH (TILE + 4)

// Y[r][o] = X[r] . W[o], handed to `end` two outputs at a time. X [rows][K], W [N][K], both in f32.
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
        for (int j = 0; j < 4; j += 2) {
            const int row = first_row + 4 * ty + i, output = first_output + 4 * tx + j;
            if (row < rows && output < outputs) end(end.row(row), end.pair(output), sum[i][j], sum[i][j + 1]);
        }
}

// Rows of 16-byte aligned inputs on their way to a tile of shared memory, DEPTH inputs of each from k on; zeros
// behind the last row and the last input.
template <int ROWS, int DEPTH>
__device__ inline void bring_rows(Copies &copies, bf16 *to, const bf16 *from, int rows, int inputs, int k) {
    constexpr int CHUNKS = DEPTH / 8, THREADS = 256;
#pragma unroll
    for (int j = 0; j < ROWS * CHUNKS / THREADS; j++) {
        const int i = j * THREADS + threadIdx.x, row = i / CHUNKS, c = i % CHUNKS * 8;
        copies.copy(to + row * (DEPTH + 8) + c, from + (long long)row * inputs + k + c,
                    row < rows && k + c < inputs);
    }
}

// A block's tile of a product on tensor cores, M rows and N outputs, of 8 warps: with 128 x 128 a warp makes
// 64 x 32 of it, with 128 x 64 32 x 32, with 64 x 64 32 x 16. Large tiles bring fewer bytes a product, small ones
// give more blocks; plan/prompt.rs chooses.
template <int M, int N> struct ProductTile {
    static constexpr int DEPTH = M * N > 64 * 64 ? 32 : 64, PITCH = DEPTH + 8, STAGES = 4;
    static constexpr int WARPS_OF_ROWS = M > N ? 4 : 2, WARPS_OF_OUTPUTS = 8 / WARPS_OF_ROWS;
    static constexpr int ROWS = M / WARPS_OF_ROWS, OUTPUTS = N / WARPS_OF_OUTPUTS; // a warp's
    static constexpr int I = ROWS / 16, J = OUTPUTS / 8;
    float sum[I][J][4] = {};

    // DEPTH inputs more; `x` and `weights` begin at this warp's rows and outputs.
    __device__ void multiply(const bf16 *x, const bf16 *weights) {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int k = 0; k < DEPTH; k += 16) {
            unsigned a[I][4];
#pragma unroll
            for (int i = 0; i < I; i++)
                load_tiles(a[i], x + (16 * i + lane % 16) * PITCH + k + lane / 16 * 8);
#pragma unroll
            for (int j = 0; j < J; j += 2) {
                unsigned b[4];
                load_tiles(b, weights + (8 * j + lane / 16 * 8 + lane % 8) * PITCH + k + lane / 8 % 2 * 8);
#pragma unroll
                for (int i = 0; i < I; i++) {
                    multiply_tile(sum[i][j], a[i], b[0], b[1]);
                    multiply_tile(sum[i][j + 1], a[i], b[2], b[3]);
                }
            }
        }
    }
};

// The same product in bf16. grid (N outputs a block, M rows a block), 256 threads. Up to three stages of inputs are
// on their way while one is multiplied; the first weights even while the kernel before is still running.
// Shared memory: [4] stages of a tile of either side, rows padded by 16 bytes, so that the 8 rows that are
// read at once lie in different banks.
template <int M, int N, class End>
__device__ inline void matmul(const bf16 *x, const bf16 *weights, int rows, int inputs, int outputs,
                              const End &end) {
    SHARED_MEMORY(shared);
    using Tile = ProductTile<M, N>;
    constexpr int DEPTH = Tile::DEPTH, PITCH = Tile::PITCH, STAGES = Tile::STAGES, STAGE = (M + N) * PITCH;
    bf16 *stages = (bf16 *)shared; // [4] rows, outputs
    const int first_row = blockIdx.y * M, first_output = blockIdx.x * N;
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const int warp_row = warp % Tile::WARPS_OF_ROWS * Tile::ROWS;
    const int warp_output = warp / Tile::WARPS_OF_ROWS * Tile::OUTPUTS;
    x += (long long)first_row * inputs;
    weights += (long long)first_output * inputs;
    Copies copies;
    for (int s = 0; s < STAGES - 1; s++)
        bring_rows<N, DEPTH>(copies, stages + s * STAGE + M * PITCH, weights, outputs - first_output, inputs,
                             s * DEPTH);
    wait_for_predecessor();
    let_successor_start();
    for (int s = 0; s < STAGES - 1; s++) {
        bring_rows<M, DEPTH>(copies, stages + s * STAGE, x, rows - first_row, inputs, s * DEPTH);
        copies.close();
    }
    Tile mine;
    for (int k = 0, s = 0; k < inputs; k += DEPTH, s++) {
        copies.wait<STAGES - 2>();
        // Now this stage is there, and nobody reads the one before it any more, which is filled next.
        __syncthreads();
        const int next = k + (STAGES - 1) * DEPTH;
        if (next < inputs) {
            bf16 *to = stages + (s + STAGES - 1) % STAGES * STAGE;
            bring_rows<M, DEPTH>(copies, to, x, rows - first_row, inputs, next);
            bring_rows<N, DEPTH>(copies, to + M * PITCH, weights, outputs - first_output, inputs, next);
        }
        copies.close();
        const bf16 *stage = stages + s % STAGES * STAGE;
        mine.multiply(stage + warp_row * PITCH, stage + (M + warp_output) * PITCH);
    }
#pragma unroll
    for (int i = 0; i < Tile::I; i++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int row = first_row + warp_row + 16 * i + 8 * h + g;
            const auto to = end.row(min(row, rows - 1));
#pragma unroll
            for (int j = 0; j < Tile::J; j++) {
                const int output = first_output + warp_output + 8 * j + 2 * t;
                const auto pair = end.pair(min(output, outputs - 2));
                if (row < rows && output < outputs)
                    end(to, pair, mine.sum[i][j][2 * h], mine.sum[i][j][2 * h + 1]);
            }
        }
}

// What becomes of the sums of a row and of two outputs side by side; there is an even number of them. `row` and
// `pair` work out what all sums of a row or of a pair of outputs share.
struct OutputPair {
    int first;
    float bias[2];
};

template <class T> struct MatmulEndQkv {
    // In whole elements: of the row among the queries, of its position in the first head's cache.
    struct Row {
        long long query, cached;
    };
    struct Pair {
        T *cache; // of keys or values; null for queries
        long long at;
        float bias[2];
    };
    const float *bias;
    const int *position;
    float *query;
    T *keys, *values;
    int length, width, heads, context;
    float scale;

    // Row r is token r % length of sequence r / length.
    __device__ Row row(int row) const {
        const int sequence = row / length, at = position[sequence] + row % length;
        return {(long long)row * width, ((long long)sequence * heads * context + at) * (width / heads)};
    }
    __device__ Pair pair(int output) const {
        const int part = output / width, c = output % width, d = width / heads;
        const long long at = part == 0 ? c : (long long)(c / d) * context * d + c % d;
        return {part == 0 ? nullptr : part == 1 ? keys : values, at, {bias[output], bias[output + 1]}};
    }
    __device__ void operator()(const Row &row, const Pair &pair, float a, float b) const {
        a += pair.bias[0];
        b += pair.bias[1];
        if (pair.cache)
            store_pair(pair.cache + row.cached + pair.at, a, b);
        else
            store_pair(query + row.query + pair.at, a * scale, b * scale);
    }
};

// Queries, keys and values that lie side by side, without bias, go where the product above would have put them.
// grid (rows).
template <class T>
__device__ inline void split_qkv(const float *joined, int width, const MatmulEndQkv<T> &end) {
    wait_for_predecessor();
    let_successor_start();
    joined += (long long)blockIdx.x * 3 * width;
    const auto row = end.row(blockIdx.x);
    for (int output = 2 * threadIdx.x; output < 3 * width; output += 2 * blockDim.x) {
        const float2 sums = *(const float2 *)(joined + output);
        end(row, end.pair(output), sums.x, sums.y);
    }
}

template <class T> struct MatmulEndGelu {
    const float *bias;
    T *y;
    int outputs;
    __device__ T *row(int row) const { return y + (long long)row * outputs; }
    __device__ OutputPair pair(int output) const { return {output, {bias[output], bias[output + 1]}}; }
    __device__ void operator()(T *row, const OutputPair &pair, float a, float b) const {
        store_pair(row + pair.first, gelu(a + pair.bias[0]), gelu(b + pair.bias[1]));
    }
};

struct MatmulEndAdd {
    const float *bias;
    float *y;
    int outputs;
    __device__ float *row(int row) const { return y + (long long)row * outputs; }
    __device__ OutputPair pair(int output) const { return {output, {bias[output], bias[output + 1]}}; }
    __device__ void operator()(float *row, const OutputPair &pair, float a, float b) const {
        const float2 old = *(const float2 *)(row + pair.first);
        store_pair(row + pair.first, old.x + (a + pair.bias[0]), old.y + (b + pair.bias[1]));
    }
};
