import { instance, serve, upstream } from "./service.mjs";

/** v1 shows no stars, v2 black ones, v3 red ones. */
const version = process.env.VERSION;
const color = { v2: "black", v3: "red" }[version];
const ratings = color === undefined ? undefined : upstream("RATINGS");

const TEXTS = [
  { reviewer: "Reviewer1", text: "An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!" },
  {
    reviewer: "Reviewer2",
    text: "Absolutely fun and entertaining. The play lacks thematic depth when compared to others.",
  },
];

serve(async ({ headers }) => {
  if (ratings === undefined) return { id: 0, version, instance, reviews: TEXTS };
  const user = headers["end-user"];
  const { stars, instance: rater } = await ratings("/ratings/0", user === undefined ? {} : { "end-user": user });
  const reviews = TEXTS.map((review) => ({ ...review, rating: { stars: stars[review.reviewer], color } }));
  return { id: 0, version, instance, ratings: rater, reviews };
});
