// Attention of one query a sequence over the cache, and the embedding a step begins with.

// x = token_table[token] + position_table[position]. grid (rows), 128 threads; row r is token r % length of
// sequence r / length. Reads a row of either table.
template <class W>
__device__ inline void embed(const int *tokens, const int *position, const W *token_table,
                             const float *position_table, float *residual, int length, int width) {
    wait_for_predecessor();
    let_successor_start();
    const int row = blockIdx.x;
    const W *token = token_table + (long long)tokens[row] * width;
    const float *place = position_table + (long long)(position[row / length] + row % length) * width;
    for (int c = threadIdx.x; c < width; c += blockDim.x)
        residual[(long long)row * width + c] = widen(token[c]) + place[c];
}

// Positions that a part has at least, so that short texts are not cut into crumbs.
#define SPLIT_POSITIONS 64

// grid (splits S, H, B), 128 threads: the s-th part of the positions of one head of one sequence.
// Reads 2 D numbers of the cache a position, once. With scores t_p = q . k_p (q comes scaled):
//   m_s = max t_p,   l_s = sum e^(t_p - m_s),   partial_s = sum e^(t_p - m_s) v_p
// G = D / N lanes hold one position's keys, 16 bytes each, so a warp takes 32 / G positions at a time, and
// 4 such loads are under way. Each G lanes keep m, l and sums of their own (the online softmax of Milakov
// and Gimelshein, 2018): a larger maximum scales down what was summed. They meet at the end.
// What comes out of part p = (b S + s) H + h goes to `put`: partial_s number by number, with l_s, and then m_s
// and l_s.
// Shared memory: D sums, a maximum and a sum of weights for each warp.
template <class W, class Put>
__device__ inline void attend_part(const float *query, const W *keys, const W *values, const int *position,
                                   int heads, int head_width, int context, const Put &put) {
    SHARED_MEMORY(shared);
    constexpr int N = Vector<W>::N, U = 4;
    const int d = head_width, group = d / N, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int warps = blockDim.x / 32, at_once = 32 / group, part = lane % group;
    const int split = blockIdx.x, splits = gridDim.x, head = blockIdx.y;
    const long long sequence = blockIdx.z, of_part = (sequence * splits + split) * heads + head;
    wait_for_predecessor();
    let_successor_start();
    const int count = position[sequence] + 1;
    const int chunk = max((count + splits - 1) / splits, SPLIT_POSITIONS);
    const int begin = split * chunk, end = min(begin + chunk, count);
    if (begin >= end) {
        if (threadIdx.x == 0) put.ends(of_part, minus_infinity(), 0.0f);
        return;
    }
    const long long cached = (sequence * heads + head) * (long long)context;
    const uint4 *key = (const uint4 *)(keys + cached * d), *value = (const uint4 *)(values + cached * d);
    float q[N], sum[N], max_score = minus_infinity(), weights = 0.0f;
#pragma unroll
    for (int i = 0; i < N; i++) {
        q[i] = query[(sequence * heads + head) * d + part * N + i];
        sum[i] = 0.0f;
    }
    for (int base = begin + warp * at_once * U; base < end; base += warps * at_once * U) {
        uint4 k[U], v[U];
        float score[U];
#pragma unroll
        for (int u = 0; u < U; u++) {
            const int p = base + u * at_once + lane / group;
            k[u] = p < end ? key[(long long)p * group + part] : zero_vector();
            v[u] = p < end ? value[(long long)p * group + part] : zero_vector();
        }
        float larger = max_score;
#pragma unroll
        for (int u = 0; u < U; u++) {
            float w[N], t = 0.0f;
            Vector<W>::unpack(k[u], w);
#pragma unroll
            for (int i = 0; i < N; i++) t += q[i] * w[i];
            for (int offset = group / 2; offset > 0; offset /= 2) t += __shfl_xor_sync(0xffffffffu, t, offset);
            score[u] = base + u * at_once + lane / group < end ? t : minus_infinity();
            larger = fmaxf(larger, score[u]);
        }
        const float correction = weight_of(max_score, larger);
        max_score = larger;
        weights *= correction;
#pragma unroll
        for (int i = 0; i < N; i++) sum[i] *= correction;
#pragma unroll
        for (int u = 0; u < U; u++) {
            float w[N];
            const float weight = weight_of(score[u], max_score);
            Vector<W>::unpack(v[u], w);
            weights += weight;
#pragma unroll
            for (int i = 0; i < N; i++) sum[i] += weight * w[i];
        }
    }
    // The groups of a warp, then the warps.
    for (int offset = group; offset < 32; offset *= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, max_score, offset);
        const float larger = fmaxf(max_score, other);
        const float mine = weight_of(max_score, larger), theirs = weight_of(other, larger);
        weights = weights * mine + __shfl_xor_sync(0xffffffffu, weights, offset) * theirs;
#pragma unroll
        for (int i = 0; i < N; i++)
            sum[i] = sum[i] * mine + __shfl_xor_sync(0xffffffffu, sum[i], offset) * theirs;
        max_score = larger;
    }
    float *sums = (float *)shared, *ends = sums + warps * d;
    if (lane < group) {
#pragma unroll
        for (int i = 0; i < N; i++) sums[warp * d + part * N + i] = sum[i];
    }
    if (lane == 0) {
        ends[2 * warp] = max_score;
        ends[2 * warp + 1] = weights;
    }
    __syncthreads();
    float largest = minus_infinity(), total = 0.0f;
    for (int w = 0; w < warps; w++) largest = fmaxf(largest, ends[2 * w]);
    for (int w = 0; w < warps; w++) total += ends[2 * w + 1] * weight_of(ends[2 * w], largest);
    for (int i = threadIdx.x; i < d; i += blockDim.x) {
        float x = 0.0f;
        for (int w = 0; w < warps; w++) x += sums[w * d + i] * weight_of(ends[2 * w], largest);
        put.sum(of_part, i, x, total);
    }
    if (threadIdx.x == 0) put.ends(of_part, largest, total);
}

struct PutPart {
    float *partial, *stats;
    int head_width;
    __device__ void sum(long long part, int i, float x, float) const { partial[part * head_width + i] = x; }
    __device__ void ends(long long part, float max, float total) const {
        stats[part * 2] = max;
        stats[part * 2 + 1] = total;
    }
};

template <class W>
__device__ inline void attend(const float *query, const W *keys, const W *values, const int *position,
                              float *partial, float *stats, int heads, int head_width, int context) {
    const PutPart put = {partial, stats, head_width};
    attend_part(query, keys, values, position, heads, head_width, context, put);
}
