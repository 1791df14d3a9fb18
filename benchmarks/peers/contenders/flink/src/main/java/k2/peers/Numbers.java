package k2.peers;

import java.util.Arrays;

/**
 * The sequence numbers of one symbol that were seen. A POJO, so that Flink has a serializer for it.
 *
 * <p>One value for all: on the heap it is changed in place, and read and written once a message.
 */
public class Numbers {
  /** The number that is expected next. */
  public long next;

  /** First and last number of each gap, in their order. */
  public long[] gaps = {};

  /** Adds the gap from the expected number up to, not including, this one. */
  void open(long sequence) {
    gaps = Arrays.copyOf(gaps, gaps.length + 2);
    gaps[gaps.length - 2] = next;
    gaps[gaps.length - 1] = sequence - 1;
  }

  /** Takes a number out of the gap that it is in; returns false if it is in none. */
  boolean fill(long sequence) {
    int found = Arrays.binarySearch(gaps, sequence);
    // A number that is not a bound is in a gap if the bound after it is a last one.
    int after = found < 0 ? -found - 1 : found | 1;
    if (after % 2 == 0) {
      return false;
    }
    long first = gaps[after - 1];
    long last = gaps[after];
    long[] left =
        first == last
            ? new long[] {}
            : first == sequence
                ? new long[] {first + 1, last}
                : last == sequence
                    ? new long[] {first, last - 1}
                    : new long[] {first, sequence - 1, sequence + 1, last};
    long[] filled = new long[gaps.length - 2 + left.length];
    System.arraycopy(gaps, 0, filled, 0, after - 1);
    System.arraycopy(left, 0, filled, after - 1, left.length);
    System.arraycopy(gaps, after + 1, filled, after - 1 + left.length, gaps.length - after - 1);
    gaps = filled;
    return true;
  }
}
