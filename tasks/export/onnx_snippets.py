"""The graph around Ultralytics' own, in ONNX's text form, for `str.format`.

N images of S x S pixels, A anchors, C classes, E values of a detection beside its box and its scores (coefficients of
its mask, keypoints, an angle), R = min(300, A) rows. BEFORE and AFTER are graphs, the others statements of AFTER:

1. ANCHORS. With NMS: BEST_CLASS, NMS or NMS_ROTATED, then TOP. NMS-free: TOP_PAIRS. If E > 0: TOP_EXTRA.
   They leave `box` [N,R,4], `score` [N,R,1], `label` [N,R,1] and `extra` [N,R,E].
2. Of the task: ENCLOSING_BOX for obb, KEYPOINTS for pose.
3. MASK, then OUTPUT for each output that has a row a detection.
"""

# The division is Ultralytics' own, so that scores match to the last digit.
BEFORE = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
before (uint8[N,{size},{size},3] images) => (float[N,3,{size},{size}] pixels) {{
  channels_first = Transpose <perm = [0, 3, 1, 2]> (images)
  real = Cast <to = 1> (channels_first)
  white = Constant <value_float = 255.0> ()
  pixels = Div (real, white)
}}
"""

AFTER = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
after ({inputs}) => ({outputs}) {{
{statements}
}}
"""

RENAME = """
  {name} = Identity ({source})
"""

CONSTANTS = """
  axis1 = Constant <value_ints = [1]> ()
  axis2 = Constant <value_ints = [2]> ()
  confidence = Constant <value_floats = [{confidence}]> ()
  row_count = Constant <value_ints = [{rows}]> ()
"""

# `raw` [N,4+C+E,A] (box, scores, extra) -> `best` [N,A], the score of each anchor's best class.
ANCHORS = """
  sections = Constant <value_ints = {sections}> ()
  {columns} = Split <axis = 1> (raw, sections)
  best = ReduceMax <keepdims = 0> (scores, axis1)
"""

# -> `best_class` [N,A], and `zeros` [N,A].
BEST_CLASS = """
  best_class = ArgMax <axis = 1, keepdims = 0> (scores)
  shape = Shape (best)
  zeros = ConstantOfShape <value = float[1] {{0.0}}> (shape)
"""

# -> `boxes` [N,A,4] corners, and `sparse` [N,A]: the scores of the anchors that stay, zeros for the others.
# Ultralytics' own `nms=True` export unrolls its loop over the images of the tracing batch, so with another N only the
# first image has detections. Here the batch stays a dimension. Each anchor keeps its best class, NMS runs for each
# class, and the surviving scores are scattered back over the anchors, so that one TopK sorts and pads.
NMS = """
  halves = Constant <value_ints = [2, 2]> ()
  centre, size = Split <axis = 1> (anchor_boxes, halves)
  half = Constant <value_float = 0.5> ()
  reach = Mul (size, half)
  low = Sub (centre, reach)
  high = Add (centre, reach)
  corners = Concat <axis = 1> (low, high)
  boxes = Transpose <perm = [0, 2, 1]> (corners)
  best_column = Unsqueeze (best, axis1)
  is_best = GreaterOrEqual (scores, best_column)
  is_best_real = Cast <to = 1> (is_best)
  best_scores = Mul (scores, is_best_real)
  iou = Constant <value_floats = [{iou}]> ()
  selected = NonMaxSuppression (boxes, best_scores, row_count, iou, confidence)
  image_and_anchor = Constant <value_ints = [0, 2]> ()
  survivors = Gather <axis = 1> (selected, image_and_anchor)
  survivor_scores = GatherND (best, survivors)
  sparse = ScatterND (zeros, survivors, survivor_scores)
"""

# -> `boxes` [N,A,4] centres and sizes, and `sparse` as above. Ultralytics' fast_nms: of two boxes of a class that are
# too near the one with the lower score goes, whether or not the higher one stays. Boxes are Gaussians with covariance
# ((a, c), (c, b)), and probiou > iou if their Bhattacharyya distance < -log(1 + eps - (1 - iou)^2), which needs neither
# exp nor sqrt of every pair. All pairs would fill the memory: compared are the best boxes, as many as the fullest image
# has above the confidence, and at most `most`.
NMS_ROTATED = """
  boxes = Transpose <perm = [0, 2, 1]> (anchor_boxes)
  angles = Transpose <perm = [0, 2, 1]> (anchor_extra)
  is_likely = Greater (best, confidence)
  is_likely_count = Cast <to = 7> (is_likely)
  likely = ReduceSum <keepdims = 0> (is_likely_count, axis1)
  likely_most = ReduceMax <keepdims = 1> (likely)
  likely_at_least = Max (likely_most, row_count)
  most = Constant <value_ints = [{most}]> ()
  count = Min (likely_at_least, most)
  ranked_scores, ranked = TopK <axis = 1> (best, count)
  ranked_column = Unsqueeze (ranked, axis2)
  ranked_boxes = GatherND <batch_dims = 1> (boxes, ranked_column)
  ranked_angles = GatherND <batch_dims = 1> (angles, ranked_column)
  ranked_class = GatherND <batch_dims = 1> (best_class, ranked_column)

  fours = Constant <value_ints = [1, 1, 1, 1]> ()
  x, y, width, height = Split <axis = 2> (ranked_boxes, fours)
  twelve = Constant <value_float = 12.0> ()
  width_squared = Mul (width, width)
  height_squared = Mul (height, height)
  along = Div (width_squared, twelve)
  across = Div (height_squared, twelve)
  cos = Cos (ranked_angles)
  sin = Sin (ranked_angles)
  cos_squared = Mul (cos, cos)
  sin_squared = Mul (sin, sin)
  along_cos = Mul (along, cos_squared)
  along_sin = Mul (along, sin_squared)
  across_cos = Mul (across, cos_squared)
  across_sin = Mul (across, sin_squared)
  a = Add (along_cos, across_sin)
  b = Add (along_sin, across_cos)
  longer = Sub (along, across)
  longer_cos = Mul (longer, cos)
  c = Mul (longer_cos, sin)
  a_b = Mul (a, b)
  c_c = Mul (c, c)
  determinant = Sub (a_b, c_c)
  determinant_positive = Relu (determinant)
  spread = Sqrt (determinant_positive)

  ranked_values = Concat <axis = 2> (x, y, a, b, c, spread)
  other_values = Transpose <perm = [0, 2, 1]> (ranked_values)
  sixes = Constant <value_ints = [1, 1, 1, 1, 1, 1]> ()
  other_x, other_y, other_a, other_b, other_c, other_spread = Split <axis = 1> (other_values, sixes)
  eps = Constant <value_float = 1e-07> ()
  half = Constant <value_float = 0.5> ()
  quarter = Constant <value_float = 0.25> ()
  four = Constant <value_float = 4.0> ()
  dx = Sub (other_x, x)
  dy = Sub (y, other_y)
  sum_a = Add (a, other_a)
  sum_b = Add (b, other_b)
  sum_c = Add (c, other_c)
  sum_a_b = Mul (sum_a, sum_b)
  sum_c_c = Mul (sum_c, sum_c)
  joint = Sub (sum_a_b, sum_c_c)
  joint_eps = Add (joint, eps)
  dx_dx = Mul (dx, dx)
  dy_dy = Mul (dy, dy)
  dx_dy = Mul (dx, dy)
  far_y = Mul (sum_a, dy_dy)
  far_x = Mul (sum_b, dx_dx)
  far_xy = Mul (sum_c, dx_dy)
  far = Add (far_y, far_x)
  far_share = Div (far, joint_eps)
  far_xy_share = Div (far_xy, joint_eps)
  term1 = Mul (far_share, quarter)
  term2 = Mul (far_xy_share, half)
  spreads = Mul (spread, other_spread)
  spreads_four = Mul (spreads, four)
  spreads_eps = Add (spreads_four, eps)
  unlike = Div (joint, spreads_eps)
  unlike_eps = Add (unlike, eps)
  unlike_log = Log (unlike_eps)
  term3 = Mul (unlike_log, half)
  terms = Add (term1, term2)
  distance = Add (terms, term3)

  nearest = Constant <value_float = {distance}> ()
  is_near = Less (distance, nearest)
  class_column = Unsqueeze (ranked_class, axis2)
  class_row = Unsqueeze (ranked_class, axis1)
  is_same_class = Equal (class_column, class_row)
  zero = Constant <value_int = 0> ()
  one = Constant <value_int = 1> ()
  count_scalar = Squeeze (count)
  rank = Range (zero, count_scalar, one)
  rank_column = Unsqueeze (rank, axis1)
  is_higher = Less (rank_column, rank)
  is_rival = And (is_same_class, is_higher)
  beats = And (is_near, is_rival)
  beats_real = Cast <to = 1> (beats)
  is_beaten = ReduceMax <keepdims = 0> (beats_real, axis1)
  white = Constant <value_float = 1.0> ()
  stays = Sub (white, is_beaten)
  staying_scores = Mul (ranked_scores, stays)
  sparse = ScatterElements <axis = 1> (zeros, ranked, staying_scores)
"""

TOP = """
  top_scores, top = TopK <axis = 1> (sparse, row_count)
  top_column = Unsqueeze (top, axis2)
  box = GatherND <batch_dims = 1> (boxes, top_column)
  score = Unsqueeze (top_scores, axis2)
  best_class_real = Cast <to = 1> (best_class)
  top_class = GatherND <batch_dims = 1> (best_class_real, top_column)
  label = Unsqueeze (top_class, axis2)
"""

# The best pairs of an anchor and a class, which are pairs of the best anchors, as in Ultralytics' heads without NMS.
# These narrow the anchors while they gather, which OpenVINO does not compile.
TOP_PAIRS = """
  boxes = Transpose <perm = [0, 2, 1]> (anchor_boxes)
  anchor_scores = Transpose <perm = [0, 2, 1]> (scores)
  first_scores, first = TopK <axis = 1> (best, row_count)
  first_column = Unsqueeze (first, axis2)
  pairs = GatherND <batch_dims = 1> (anchor_scores, first_column)
  flat = Constant <value_ints = [0, -1]> ()
  pair_scores = Reshape (pairs, flat)
  top_scores, pair = TopK <axis = 1> (pair_scores, row_count)
  classes = Constant <value_int = {classes}> ()
  place = Div (pair, classes)
  place_column = Unsqueeze (place, axis2)
  top = GatherND <batch_dims = 1> (first, place_column)
  top_column = Unsqueeze (top, axis2)
  box = GatherND <batch_dims = 1> (boxes, top_column)
  score = Unsqueeze (top_scores, axis2)
  top_class = Mod (pair, classes)
  top_class_real = Cast <to = 1> (top_class)
  label = Unsqueeze (top_class_real, axis2)
"""

TOP_EXTRA = """
  extras = Transpose <perm = [0, 2, 1]> (anchor_extra)
  extra = GatherND <batch_dims = 1> (extras, top_column)
"""

# `box` (centre, size) and `extra` (angle) -> `rotated` [N,R,5] and its upright hull `hull` [N,R,4] (corners).
ENCLOSING_BOX = """
  rotated_rows = Concat <axis = 2> (box, extra)
  twos = Constant <value_ints = [2, 2]> ()
  ones = Constant <value_ints = [1, 1]> ()
  middle, sides = Split <axis = 2> (box, twos)
  halving = Constant <value_float = 0.5> ()
  half_sides = Mul (sides, halving)
  half_width, half_height = Split <axis = 2> (half_sides, ones)
  turn_cos = Cos (extra)
  turn_sin = Sin (extra)
  width_x = Mul (half_width, turn_cos)
  width_y = Mul (half_width, turn_sin)
  height_x = Mul (half_height, turn_sin)
  height_y = Mul (half_height, turn_cos)
  width_reach = Concat <axis = 2> (width_x, width_y)
  height_reach = Concat <axis = 2> (height_x, height_y)
  width_far = Abs (width_reach)
  height_far = Abs (height_reach)
  hull_reach = Add (width_far, height_far)
  hull_low = Sub (middle, hull_reach)
  hull_high = Add (middle, hull_reach)
  hull = Concat <axis = 2> (hull_low, hull_high)
"""

# `extra` [N,R,2K] of a model that knows no visibility -> `visible` [N,R,3K]: all are visible.
VISIBLE = """
  points_shape = Constant <value_ints = [0, 0, {keypoints}, 2]> ()
  points = Reshape (extra, points_shape)
  third = Constant <value_ints = [0, 0, 0, 0, 0, 0, 0, 1]> ()
  sure = Constant <value_float = 1.0> ()
  points_sure = Pad (points, third, sure)
  visible_shape = Constant <value_ints = [0, 0, {values}]> ()
  visible = Reshape (points_sure, visible_shape)
"""

# Rows without a detection become zeros, and an image with fewer than 300 anchors gets rows up to 300.
MASK = """
  detection_rows = Concat <axis = 2> ({corners}, score, label)
  is_found = Greater (score, confidence)
  found = Cast <to = 1> (is_found)
  missing = Constant <value_ints = [0, 0, 0, 0, {missing}, 0]> ()
"""

OUTPUT = """
  {name}_found = Mul ({source}, found)
  {name} = Pad ({name}_found, missing)
"""

KEYPOINTS = """
  keypoints_shape = Constant <value_ints = [0, 0, {keypoints}, 3]> ()
  keypoints = Reshape (keypoint_rows, keypoints_shape)
"""
